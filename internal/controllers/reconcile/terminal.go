package reconcile

import "errors"

type terminalError struct{ err error }

func (t terminalError) Error() string { return t.err.Error() }
func (t terminalError) Unwrap() error { return t.err }

// Terminal marks an error that no retry can cure: the key rests until something about it changes.
func Terminal(err error) error {
	if err == nil {
		return nil
	}
	return terminalError{err}
}

// IsTerminal reports whether err, or an error it wraps, is Terminal.
func IsTerminal(err error) bool {
	var t terminalError
	return errors.As(err, &t)
}
