// Package ring keeps the last part of a recording: a flight recorder. What is recorded
// goes into segments, each a log of its own that goes on where the one before ends. The
// oldest is dropped when those after it are enough. When a condition comes true the
// segments are joined to one log.
package ring
