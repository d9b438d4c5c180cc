// Package tracee is the mechanism of recording: which threads there are, which
// of them run, stand or sleep, and how they are stopped, asked and let go. It
// turns the reports of the kernel into calls of a Handler, and knows nothing of
// logs, mappings or snapshots.
//
// The kernel ties a tracee to the OS thread that traces it. A Group owns that
// thread: all its methods but Ask, After and Interrupt must be called on
// it, that is, by a Handler, by what was handed to Ask, or by the functions given
// to Serve.
//
// The files lean one way: each uses those that stand before it here, and none behind it. But
// a thread keeps the Stepper of step.go.
//
//	what there is      abi.go divided.go call.go source.go kernel.go seed.go linux.go fault.go
//	this process       ask.go guard.go process.go limits.go
//	who is traced      nest.go state.go thread.go handler.go group.go
//	what can be seen   disposition.go restart.go collect.go registers.go
//	what comes         arrive.go ownstatus.go
//	what is done       pin.go inject.go step.go sandbox.go remainder.go otherwrite.go
//	for tracers        emulate.go sigchld.go suspend.go zombie.go waits.go
//	how threads go on  inside.go resume.go report.go
//	serving stops      exit.go outside.go tracer.go warden.go signal.go requests32.go requests.go entry.go
//	beginning, ending  hold.go birth.go attach.go launch.go freeze.go
//	all together       serve.go
package tracee
