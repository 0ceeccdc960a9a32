package main

import (
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// logLimit is how large the log of a process that runs in the background may become. One older part is kept beside it.
const logLimit = 64 << 20

// logOutput is where log lines go: standard error, which is kept from growing for ever when it is the log file that `canopus up`
// opened. Any other file is its owner's business.
func logOutput(cfg *config) io.Writer {
	path := logFile(cfg)
	flags, err := unix.FcntlInt(os.Stderr.Fd(), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_APPEND == 0 {
		return os.Stderr
	}
	ours, err := os.Stderr.Stat()
	if err != nil {
		return os.Stderr
	}
	named, err := os.Stat(path)
	if err != nil || !os.SameFile(ours, named) {
		return os.Stderr
	}
	return &boundedFile{file: os.Stderr, path: path, limit: logLimit, size: ours.Size()}
}

// boundedFile is a file, open for appending, whose contents move to path.1 when it has reached its limit. The file itself stays the
// same: the processes that started this one hold it open, too.
type boundedFile struct {
	file  *os.File
	path  string
	limit int64

	mu   sync.Mutex
	size int64
}

// Write appends p. When the older part cannot be kept, the log goes on growing and says why once per limit.
func (b *boundedFile) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.size > 0 && b.size+int64(len(p)) > b.limit {
		b.size = 0
		if err := b.turn(); err != nil {
			fmt.Fprintf(b.file, "the log is longer than %d MiB and its older part cannot be moved aside: %v: free space, or move it away\n", b.limit>>20, err)
		}
	}
	n, err := b.file.Write(p)
	b.size += int64(n)
	return n, err
}

// turn moves what is there to path.1.
func (b *boundedFile) turn() error {
	from, err := os.Open(b.path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(b.path+".1.new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if closing := to.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(to.Name(), b.path+".1")
	}
	if err != nil {
		_ = os.Remove(to.Name())
		return err
	}
	return b.file.Truncate(0)
}
