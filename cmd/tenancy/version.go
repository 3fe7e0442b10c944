package main

import (
	"context"
	"flag"
	"fmt"
	"runtime/debug"
)

// versionCommand prints the version of the tool.
type versionCommand struct{}

func (versionCommand) flags(*flag.FlagSet) {}

func (versionCommand) run(_ context.Context, args []string, s streams) (int, error) {
	if err := none(args); err != nil {
		return 0, err
	}
	text := "tenancy " + version()
	if info, ok := debug.ReadBuildInfo(); ok {
		text = fmt.Sprintf("%s (%s)", text, info.GoVersion)
	}
	return exitClean, write(s, text+"\n")
}

// version is the version of the module, as recorded by the go command.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
