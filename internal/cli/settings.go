package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const settingsFile = "settings.json"

// settings is what a server or an agent ran with last, so that stop, status and reset look where it put things. It is a
// convenience for commands: nothing that runs reads it.
type settings struct {
	Version int               `json:"version"`
	Command string            `json:"command"` // server or agent
	Flags   map[string]string `json:"flags"`   // those that are not at their default
}

const settingsVersion = 1

// WriteSettings records the flags of a command that starts on a data directory.
func WriteSettings(dataDir, command string, flags map[string]string) error {
	data, err := json.MarshalIndent(settings{settingsVersion, command, flags}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dataDir, 0o755); err != nil {
		return err
	}
	path := filepath.Join(dataDir, settingsFile)
	temp := path + ".new"
	if err := os.WriteFile(temp, append(data, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// ReadSettings returns what was recorded, or nothing when nothing was.
func ReadSettings(dataDir string) (command string, flags map[string]string, err error) {
	path := filepath.Join(dataDir, settingsFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	var s settings
	if err := json.Unmarshal(data, &s); err != nil {
		return "", nil, fmt.Errorf("%s is damaged: remove it: %w", path, err)
	}
	if s.Version > settingsVersion {
		return "", nil, fmt.Errorf("%s has version %d, this canopus knows %d: use the newer canopus", path, s.Version, settingsVersion)
	}
	return s.Command, s.Flags, nil
}
