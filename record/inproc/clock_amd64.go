// This file reads the processor's time stamp counter.

package inproc

// counter reads the time stamp counter.
func counter() uint64
