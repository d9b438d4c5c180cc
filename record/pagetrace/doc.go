// Package pagetrace records page references: which pages a program uses, and when.
//
// There are two ways. The Warden (engine prot) closes the memory of a program by
// protections that let nobody in, and opens a block at the first access to it. It makes
// the calls for that in the name of the program's threads, and stands before each call and
// signal so that the kernel finds open what it accesses for them. Writes (engine wp) are
// found beside the program, by write-protection and page faults.
//
// What is open, closed and held is in record/refs, what finds writes in record/dirty. The
// recorder is a Host, and its address spaces are a Memory.
package pagetrace
