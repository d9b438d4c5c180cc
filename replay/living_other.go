//go:build !linux

package replay

import (
	"errors"
	"time"
)

// openLiving knows no process elsewhere.
func openLiving(fileKey, []living, time.Time) (*MappedFile, error) {
	return nil, errors.New("it can only be had on the machine of the recording")
}
