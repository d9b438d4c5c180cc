package call

// PathArgs says which arguments of the call are strings that name a file, as bits: 1 << i
// for argument i. Of calls that are not known it is 0.
func (c *Call) PathArgs() (mask uint8) {
	var p printer
	p.init(c, nil)
	if p.sig == nil {
		return 0
	}
	for i := range p.sig.words {
		if w := &p.sig.words[i]; w.def == wordDefs["path"] {
			mask |= 1 << w.reg
		}
	}
	return mask
}
