package arch

import (
	"strconv"
	"strings"
)

// Numbers of the signals that the code speaks of; the same on all three
// architectures.
const (
	SIGILL  = 4
	SIGTRAP = 5
	SIGABRT = 6
	SIGBUS  = 7
	SIGFPE  = 8
	SIGSEGV = 11
	SIGCHLD = 17
	SIGSYS  = 31

	sigRTMin = 32 // the kernel's; the libc keeps the first two for itself
	sigRTMax = 64
)

var signals = [...]string{
	1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP",
	6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 10: "SIGUSR1",
	11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM",
	16: "SIGSTKFLT", 17: "SIGCHLD", 18: "SIGCONT", 19: "SIGSTOP", 20: "SIGTSTP",
	21: "SIGTTIN", 22: "SIGTTOU", 23: "SIGURG", 24: "SIGXCPU", 25: "SIGXFSZ",
	26: "SIGVTALRM", 27: "SIGPROF", 28: "SIGWINCH", 29: "SIGIO", 30: "SIGPWR",
	31: "SIGSYS", 32: "SIGRTMIN", 33: "SIGRT_1", 34: "SIGRT_2", 35: "SIGRT_3",
	36: "SIGRT_4", 37: "SIGRT_5", 38: "SIGRT_6", 39: "SIGRT_7", 40: "SIGRT_8",
	41: "SIGRT_9", 42: "SIGRT_10", 43: "SIGRT_11", 44: "SIGRT_12", 45: "SIGRT_13",
	46: "SIGRT_14", 47: "SIGRT_15", 48: "SIGRT_16", 49: "SIGRT_17", 50: "SIGRT_18",
	51: "SIGRT_19", 52: "SIGRT_20", 53: "SIGRT_21", 54: "SIGRT_22", 55: "SIGRT_23",
	56: "SIGRT_24", 57: "SIGRT_25", 58: "SIGRT_26", 59: "SIGRT_27", 60: "SIGRT_28",
	61: "SIGRT_29", 62: "SIGRT_30", 63: "SIGRT_31", 64: "SIGRT_32",
}

// SignalName names a signal as strace does, a real-time one by its distance
// from the kernel's first (SIGRT_3); the bare number where there is none.
func SignalName(n int) string {
	if n > 0 && n < len(signals) {
		return signals[n]
	}
	return strconv.Itoa(n)
}

// SignalNumber takes what SignalName gives, the same without "SIG", kill(1)'s
// RTMIN+N and RTMAX-N (counted from the libc's first, as everyone does there),
// and a number.
func SignalNumber(name string) (n int, ok bool) {
	if n, err := strconv.Atoi(name); err == nil {
		return n, n > 0 && n < len(signals)
	}
	s := strings.ToUpper(name)
	s = strings.TrimPrefix(s, "SIG")
	switch s {
	case "IOT":
		return SIGABRT, true
	case "CLD":
		return SIGCHLD, true
	case "POLL":
		return 29, true
	}
	for n, have := range signals {
		if n > 0 && have[3:] == s {
			return n, true
		}
	}
	if d, ok := strings.CutPrefix(s, "RTMIN+"); ok {
		if k, err := strconv.Atoi(d); err == nil && k >= 0 && k <= sigRTMax-34 {
			return 34 + k, true
		}
	}
	if s == "RTMAX" {
		return sigRTMax, true
	}
	if d, ok := strings.CutPrefix(s, "RTMAX-"); ok {
		if k, err := strconv.Atoi(d); err == nil && k >= 0 && k <= sigRTMax-34 {
			return sigRTMax - k, true
		}
	}
	return 0, false
}
