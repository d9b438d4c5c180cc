package symbol

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func openFile(name string) (Opened, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return sized{f, fi.Size()}, nil
}

type sized struct {
	*os.File
	size int64
}

func (s sized) Size() int64 { return s.size }

// where is the place of the named function's first byte, "" without a line.
func where(t *testing.T, m *Image, name string) string {
	t.Helper()
	s, ok := m.Lookup(name)
	if !ok {
		return ""
	}
	if p := m.Places(s.Value); len(p) > 0 {
		return p[0].Function + " " + filepath.Base(p[0].File)
	}
	f, _ := m.Func(s.Value)
	return f.Name
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
}

// TestFind looks for a stripped program and its debug file in each of the places.
func TestFind(t *testing.T) {
	src := build(t, "gcc", "stubs.c", "whole", "-g", "-Wl,--build-id=sha1")
	other := build(t, "gcc", "stubs.c", "other", "-g", "-O2", "-Wl,--build-id=sha1")
	id := image(t, src).BuildID()
	if len(id) != 40 || id == image(t, other).BuildID() {
		t.Fatalf("build id %q", id)
	}
	// What /usr/lib/debug has, and what strip leaves.
	parts := t.TempDir()
	debug, bare, linked := filepath.Join(parts, "x.debug"), filepath.Join(parts, "bare"), filepath.Join(parts, "linked")
	tool(t, "", "objcopy", "--only-keep-debug", src, debug)
	tool(t, "", "objcopy", "--strip-all", src, bare)
	tool(t, "", "objcopy", "--add-gnu-debuglink="+debug, bare, linked)
	noID, noIDLinked, noIDDebug := filepath.Join(parts, "noid"), filepath.Join(parts, "noidlinked"), filepath.Join(parts, "noid.debug")
	tool(t, "", "objcopy", "--remove-section=.note.gnu.build-id", src, noID)
	tool(t, "", "objcopy", "--only-keep-debug", noID, noIDDebug)
	tool(t, "", "objcopy", "--strip-all", "--add-gnu-debuglink="+noIDDebug, noID, noIDLinked)
	idFile := ".build-id/" + id[:2] + "/" + id[2:]

	const full = "main stubs.c"
	for _, c := range []struct {
		name  string
		files map[string]string // below the root: what is there
		id    string
		path  string
		dirs  bool // "dir" was given by --symbols
		own   bool // the file is the one that ran, for sure
		want  string
	}{
		{"file", map[string]string{"bin/p": src}, id, "bin/p", false, false, full},
		{"deleted, and put back", map[string]string{"bin/p": src}, id, "bin/p (deleted)", false, false, full},
		{"another file", map[string]string{"bin/p": other}, id, "bin/p", false, false, "error"},
		{"no build id, the same file", map[string]string{"bin/p": noID}, "", "bin/p", false, true, full},
		{"no build id, who knows", map[string]string{"bin/p": noID}, "", "bin/p", false, false, "error"},
		{"stripped", map[string]string{"bin/p": bare}, id, "bin/p", false, false, ""},
		{"debug by build id", map[string]string{"bin/p": bare, "debug/" + idFile + ".debug": debug}, id, "bin/p", false, false, full},
		{"debug of another", map[string]string{"bin/p": bare, "debug/" + idFile + ".debug": other}, id, "bin/p", false, false, ""},
		{"link beside", map[string]string{"bin/p": linked, "bin/x.debug": debug}, id, "bin/p", false, false, full},
		{"link in .debug", map[string]string{"bin/p": linked, "bin/.debug/x.debug": debug}, id, "bin/p", false, false, full},
		{"link under debug", map[string]string{"bin/p": linked, "debug/ROOT/bin/x.debug": debug}, id, "bin/p", false, false, full},
		{"link to another", map[string]string{"bin/p": linked, "bin/x.debug": other}, id, "bin/p", false, false, ""},
		{"link by checksum", map[string]string{"bin/p": noIDLinked, "bin/noid.debug": noIDDebug}, "", "bin/p", false, true, full},
		{"wrong checksum", map[string]string{"bin/p": noIDLinked, "bin/noid.debug": noID}, "", "bin/p", false, true, ""},
		{"only the debug file", map[string]string{"debug/" + idFile + ".debug": debug}, id, "bin/p", false, false, full},
		{"dir by build id", map[string]string{"dir/" + idFile: src}, id, "bin/p", true, false, full},
		{"dir by path", map[string]string{"dir/ROOT/bin/p": src}, id, "bin/p", true, false, full},
		{"dir by name", map[string]string{"dir/p": src}, id, "bin/p", true, false, full},
		{"dir, debug by name", map[string]string{"dir/p.debug": debug}, id, "bin/p", true, false, full},
		{"dir, both apart", map[string]string{"dir/p": bare, "dir/" + idFile + ".debug": debug}, id, "bin/p", true, false, full},
		{"dir, another", map[string]string{"dir/p": other}, id, "bin/p", true, false, "error"},
		{"dir, no build id", map[string]string{"dir/ROOT/bin/p": noID}, "", "bin/p", true, false, full},
		{"dir, another without build id", map[string]string{"dir/ROOT/bin/p": noIDLinked}, "", "bin/p", true, false, "error"},
		{"nothing", nil, id, "bin/p", true, false, "error"},
		{"no ELF file", map[string]string{"bin/p": "testdata/stubs.c"}, id, "bin/p", false, false, "error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			for to, from := range c.files {
				copyFile(t, from, filepath.Join(root, filepath.FromSlash(strings.Replace(to, "ROOT", root, 1))))
			}
			f := Finder{Open: openFile, Debug: []string{filepath.Join(root, "debug")}}
			if c.dirs {
				f.Dirs = []string{filepath.Join(root, "dir")}
			}
			fi, err := os.Stat(noID)
			if err != nil {
				t.Fatal(err)
			}
			w := Wanted{BuildID: c.id, Path: filepath.Join(root, c.path), Size: uint64(fi.Size())}
			w.Own = func() (Opened, error) {
				if !c.own {
					return nil, errors.New("another inode")
				}
				return openFile(w.Path)
			}
			m, err := f.Find(w)
			if err != nil {
				if c.want != "error" {
					t.Error(err)
				}
				return
			}
			defer m.Close()
			if got := where(t, m, "main"); got != c.want {
				t.Errorf("main is %q, want %q", got, c.want)
			}
			if err := m.Err(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFetch asks a server last, and believes it only what it asked for.
func TestFetch(t *testing.T) {
	src := build(t, "gcc", "stubs.c", "whole", "-g", "-Wl,--build-id=sha1")
	other := build(t, "gcc", "stubs.c", "other", "-g", "-O2", "-Wl,--build-id=sha1")
	id := image(t, src).BuildID()
	for _, c := range []struct{ served, want string }{{src, "main stubs.c"}, {other, ""}} {
		var asked []string
		f := Finder{Open: openFile, Fetch: func(id, kind string) (Opened, error) {
			asked = append(asked, id+" "+kind)
			return openFile(c.served)
		}}
		m, err := f.Find(Wanted{BuildID: id, Path: "/nowhere/p"})
		if err != nil && c.want != "" {
			t.Fatal(err)
		}
		if c.want == "" {
			if err == nil {
				t.Error("took another file")
			}
			if strings.Join(asked, ", ") != id+" executable, "+id+" debuginfo" {
				t.Errorf("asked for %v", asked)
			}
			continue
		}
		if got := where(t, m, "main"); got != c.want {
			t.Errorf("main is %q, want %q", got, c.want)
		}
		_ = m.Close()
	}
}
