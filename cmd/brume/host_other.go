//go:build !linux

package main

import "github.com/spf13/cobra"

// hostCmds is empty: hubs and agents run on Linux; elsewhere this is the command line of a cluster.
func (c *cli) hostCmds() []*cobra.Command { return nil }
