// Package inproc records system calls inside the program that makes them.
//
// It has the code that runs there (blob.gas, assembled as blob.bin), the table that tells
// the code what to keep of each call, the memory that program and recorder share, and what
// it takes to put a thread that is found in the code back where the program believes it to
// be. It makes no system call in the program and stops nothing: package inside does that
// with package tracee. docs/inprocess.md explains the whole.
//
// All of it is for x86_64.
package inproc
