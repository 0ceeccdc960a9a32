// Command containerd is the container runtime daemon that Canopus carries: upstream's containerd with only the plugins
// a node needs, and one command more, import-images, which loads image archives into a running daemon.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/containerd/containerd/v2/cmd/containerd/command"
)

func main() {
	app := command.App()
	app.Commands = append(app.Commands, importImages())
	if err := app.Run(context.Background(), os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "containerd:", err)
		os.Exit(1)
	}
}
