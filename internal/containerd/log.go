package containerd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// logLimit is the size from which containerd's log is cut. One older part is kept, so the log takes twice this at most,
// give or take what a minute writes.
const logLimit = 16 << 20

// rotate moves path's content to path.1 once it is large. The daemon keeps its file open for appending, so the file is
// copied and emptied in place; lines written between the two are lost.
func rotate(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() < logLimit {
		return nil
	}
	if err != nil {
		return err
	}
	from, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path+".1", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	if _, err := io.Copy(to, from); err != nil {
		return errors.Join(fmt.Errorf("copy %s: %w", path, err), to.Close())
	}
	return errors.Join(to.Close(), from.Truncate(0))
}
