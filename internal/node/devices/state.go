package devices

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// stateVersion is that of the file's format. A newer one is not read.
const stateVersion = 1

// claimState is what is known of a claim that drivers have prepared, or were asked to.
type claimState struct {
	Namespace string               `json:"namespace"`
	Name      string               `json:"name"`
	UID       types.UID            `json:"uid"`
	Pods      []types.UID          `json:"pods"`    // those that use it
	Drivers   map[string]*prepared `json:"drivers"` // by name; nil: asked, and not known to be done
}

// prepared are the devices that a driver has prepared for a claim.
type prepared struct {
	Devices []device `json:"devices,omitempty"`
}

// device is one of them, with what its driver and the container runtime call it.
type device struct {
	Pool     string   `json:"pool,omitempty"`
	Name     string   `json:"name,omitempty"`     // empty if an older program wrote it
	Requests []string `json:"requests,omitempty"` // empty: all
	CDI      []string `json:"cdi,omitempty"`
}

type stateFile struct {
	Version int           `json:"version"`
	Claims  []*claimState `json:"claims"`
}

// errDamaged says that a state file is none.
var errDamaged = errors.New("devices in use: the file that lists them is damaged")

// readState reads what was written before; nothing if nothing was.
func readState(path string) (map[types.UID]*claimState, error) {
	out := map[types.UID]*claimState{}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("devices in use: %w", err)
	}
	var file stateFile
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errDamaged, path, err)
	}
	if file.Version > stateVersion {
		return nil, fmt.Errorf("devices in use: %s has version %d, this program knows up to %d: use the newer program, or drain the node and remove the file", path, file.Version, stateVersion)
	}
	for _, c := range file.Claims {
		if c.Drivers == nil {
			c.Drivers = map[string]*prepared{}
		}
		out[c.UID] = c
	}
	return out, nil
}

// writeState writes claims so that a crash leaves either the old file or the new.
func writeState(path string, claims map[types.UID]*claimState) error {
	file := stateFile{Version: stateVersion}
	for _, c := range claims {
		file.Claims = append(file.Claims, c)
	}
	slices.SortFunc(file.Claims, func(a, b *claimState) int { return strings.Compare(string(a.UID), string(b.UID)) })
	data, err := json.Marshal(file)
	if err != nil {
		return err
	}
	fresh, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("devices in use: %w", err)
	}
	defer func() { _ = os.Remove(fresh.Name()) }() // renamed by then unless something failed
	_, err = fresh.Write(data)
	if err = errors.Join(err, fresh.Sync(), fresh.Close()); err == nil {
		err = os.Rename(fresh.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("devices in use: %w", err)
	}
	return nil
}
