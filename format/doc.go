// Package format is the log: the file that a recording leaves behind, and the
// vocabulary of the whole program (Event, Change, State). docs/format.md
// specifies the file.
//
// A Writer makes a log of events and of the changes of the state that belong
// to them, on anything that can be written to. A Reader gives them back in any
// order, with the State at any step and the contents of any page that was
// captured. Verify and Recover are for logs that something happened to.
//
// The package knows what the state is, not why: it does not interpret system
// calls, and nothing in it depends on the machine that it runs on. It says
// nothing of memory that no event has told of: such pages are unknown, not
// zero. It trusts nothing that it reads: see Limits in the specification.
//
// A Reader is safe for concurrent use. A Writer is for one goroutine (it has
// others of its own), and so is each State; a State's Clone is independent.
package format
