//go:build linux

// This file says which programs are asked to record their calls themselves.

package inside

import "fmt"

// Mode says which programs record their calls themselves.
type Mode uint8

// The choices.
const (
	Off    Mode = iota
	Auto        // where it pays
	Always      // wherever it can be done
)

var modeNames = [...]string{Off: "off", Auto: "auto", Always: "always"}

func (i Mode) String() string { return modeNames[i] }

// Parse reads off, auto or always. Its error says that the word is another.
func Parse(s string) (Mode, error) {
	for i, word := range modeNames {
		if s == word {
			return Mode(i), nil
		}
	}
	return Off, fmt.Errorf("%q is not off, auto or always", s)
}
