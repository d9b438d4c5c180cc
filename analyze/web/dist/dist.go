// Package dist holds the page of memtrace view and of report --html, as
// analyze/web/build makes it out of analyze/web/ui.
package dist

import "embed"

// Files are index.html and what it loads: app.js and app.css.
//
//go:embed index.html app.js app.css
var Files embed.FS
