package format

import (
	"errors"
	"fmt"
)

// What can be wrong with a log. Errors of this package wrap one of these where
// the file is at fault; errors of the file system come through as they are.
var (
	ErrFormat    = errors.New("not a memtrace log")
	ErrVersion   = errors.New("log of an unsupported version")
	ErrTruncated = errors.New("log is cut short")
	ErrCorrupt   = errors.New("log is damaged")
	ErrLimit     = errors.New("limit of the log format exceeded")
	// ErrRedacted is of what was taken out of a log on purpose (memtrace redact).
	ErrRedacted = errors.New("redacted: it was taken out of this log")
	// ErrBudget is an ErrLimit of what a reader allows for a log of this size: with
	// another MaxState the log may be readable.
	ErrBudget = fmt.Errorf("%w, for a log of this size", ErrLimit)
)

// DataError says where in the log something is wrong.
type DataError struct {
	Off int64 // of the chunk or of the header
	Err error
}

func (e *DataError) Error() string { return fmt.Sprintf("at offset %d: %v", e.Off, e.Err) }

// Unwrap gives the cause, which wraps one of the errors above.
func (e *DataError) Unwrap() error { return e.Err }

// corrupt makes an ErrCorrupt with what was found.
func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// overLimit makes an ErrLimit.
func overLimit(what string, got, limit uint64) error {
	return fmt.Errorf("%w: %s is %d, at most %d are allowed", ErrLimit, what, got, limit)
}

// overBudget makes an ErrBudget.
func overBudget(what string, got, limit uint64) error {
	return fmt.Errorf("%w: %s is %d, at most %d is allowed", ErrBudget, what, got, limit)
}

// at locates err, unless it already is.
func at(off int64, err error) error {
	if err == nil {
		return nil
	}
	var d *DataError
	if errors.As(err, &d) {
		return err
	}
	return &DataError{Off: off, Err: err}
}
