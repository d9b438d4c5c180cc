// Package request knows the requests of ptrace(2): their numbers and options, and the data
// that they move, of tracers of x86_64 and i386.
package request
