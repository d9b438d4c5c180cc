// Package dirty finds which pages of an address space were written, in the best way
// that the kernel has: a userfaultfd of the program's, soft-dirty bits, or not at all,
// and then everything is read. It reads no memory and knows no log.
package dirty
