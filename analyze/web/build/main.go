// Build bundles the page of memtrace view: ui/src into dist, which is committed and
// which the program embeds. It is a module of its own, so that neither esbuild nor
// the browser's driver, which the tests here use, is a dependency of memtrace.
//
//	go run .          writes dist
//	go run . -check   fails if dist is not what ui makes
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/evanw/esbuild/pkg/api"
)

const (
	ui   = "../ui"
	dist = "../dist"
)

func main() {
	check := flag.Bool("check", false, "compare dist with what ui makes, and write nothing")
	flag.Parse()
	files, err := bundle()
	if err == nil {
		if *check {
			err = compare(files)
		} else {
			err = write(files)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

// bundle returns the contents of dist by name.
func bundle() (map[string][]byte, error) {
	root, err := filepath.Abs(ui)
	if err != nil {
		return nil, err
	}
	r := api.Build(api.BuildOptions{
		AbsWorkingDir: root,
		EntryPointsAdvanced: []api.EntryPoint{
			{InputPath: "src/main.tsx", OutputPath: "app"},
			{InputPath: "src/app.css", OutputPath: "app"},
		},
		Outdir: "out", // nothing is written there
		Bundle: true,
		// The script stands inline in a report, where it runs by its hash.
		Format:            api.FormatIIFE,
		Target:            api.ES2022,
		MinifyWhitespace:  true,
		MinifySyntax:      true,
		MinifyIdentifiers: true,
		LegalComments:     api.LegalCommentsInline,
		Charset:           api.CharsetASCII,
		JSXFactory:        "h",
		JSXFragment:       "Fragment",
		TsconfigRaw:       "{}",
		Alias: map[string]string{
			"preact":       filepath.Join(root, "vendor/preact/dist/preact.mjs"),
			"preact/hooks": filepath.Join(root, "vendor/preact/hooks/dist/hooks.mjs"),
		},
		LogLevel: api.LogLevelWarning,
	})
	if len(r.Errors) > 0 || len(r.Warnings) > 0 {
		return nil, errors.New("esbuild has errors or warnings")
	}
	files := map[string][]byte{}
	for _, f := range r.OutputFiles {
		files[filepath.Base(f.Path)] = f.Contents
	}
	page, err := os.ReadFile(filepath.Join(ui, "src/index.html"))
	if err != nil {
		return nil, err
	}
	files["index.html"] = page
	licence, err := os.ReadFile(filepath.Join(ui, "vendor/preact/LICENSE"))
	if err != nil {
		return nil, err
	}
	// What contains Preact contains its licence.
	files["app.js"] = append([]byte("/* Contains Preact 11.2.0.\n"+string(licence)+"*/\n"), files["app.js"]...)
	return files, nil
}

func write(files map[string][]byte) error {
	if err := os.MkdirAll(dist, 0o755); err != nil {
		return err
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dist, name), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// compare returns an error if dist has other files, or files with other contents.
func compare(files map[string][]byte) error {
	there, err := fs.ReadDir(os.DirFS(dist), ".")
	if err != nil {
		return err
	}
	for _, f := range there {
		if files[f.Name()] == nil && f.Name() != "dist.go" {
			return fmt.Errorf("dist/%s is not made from ui: remove it", f.Name())
		}
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(dist, name))
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("dist/%s is not what ui makes: go run . in analyze/web/build, and commit it", name)
		}
	}
	return nil
}
