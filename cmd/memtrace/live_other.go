//go:build !linux

package main

import (
	"context"
	"errors"
	"time"

	"memtrace/analyze/export"
)

func withLive(context.Context, int, func(*export.Subject, int) error) (time.Duration, error) {
	return 0, errors.New("only logs can be read on this system")
}
