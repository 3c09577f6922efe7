//go:build tools

// Package tools names the etcd newer than Debian's that Twill is tried with.
package tools

import _ "go.etcd.io/etcd/server/v3"
