package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"html"

	"memtrace/analyze/web/dist"
)

// Page is one file of HTML that needs no network: the page with the data of MakeReport in
// it. Its policy lets it load nothing, and run nothing but the page's own script, which it
// names by its hash: a text of the program that gets out of the data would run nothing.
func Page(data []byte, title string) ([]byte, error) {
	style, err := dist.Files.ReadFile("app.css")
	if err != nil {
		return nil, err
	}
	script, err := dist.Files.ReadFile("app.js")
	if err != nil {
		return nil, err
	}
	// encoding/json escapes these. An element of raw text ends at the first "</".
	if bytes.ContainsRune(data, '<') || bytes.Contains(script, []byte("</script")) || bytes.Contains(style, []byte("</style")) {
		return nil, errors.New("a part of the page would end it")
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src '%s'; style-src '%s'; img-src data:; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>%s · memtrace</title>
<link rel="icon" href="data:,">
<style>%s</style>
</head>
<body>
<noscript>This page draws with JavaScript, which is switched off here. It loads nothing from elsewhere.</noscript>
<div id="app"></div>
<script type="application/json" id="memtrace-data">%s</script>
<script>%s</script>
</body>
</html>
`, source(script), source(style), html.EscapeString(title), style, data, script)
	return b.Bytes(), nil
}

// source is how a policy names what may stand in the page, by its hash.
func source(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}
