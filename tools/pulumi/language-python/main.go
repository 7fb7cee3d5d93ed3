// Command pulumi-language-python is a small Python language host for a Pulumi engine that was built from its Go
// modules.
//
// The engine starts it, reads the port from the first line of its standard output, and then asks it over gRPC to run
// Python programs, component packages and policy packs. Pulumi's own host does the same and more, but its module is not
// served by the Go module proxy; where an official Pulumi is installed, that one is used and this one never starts.
//
// What it leaves out: conversion from other languages (`pulumi convert`), packing of SDKs, debuggers, and the list of
// plugins that a program needs before it runs (the engine finds them when they are first used).
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"

	"google.golang.org/grpc"

	"github.com/pulumi/pulumi/sdk/v3/go/common/util/logging"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

// engineCheckInterval is how often the host looks whether the engine that started it still lives. A host whose engine
// was killed ends within this time, and its programs with it.
const engineCheckInterval = 5 * time.Second

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "pulumi-language-python:", err)
		os.Exit(1)
	}
}

// serve answers the engine whose address is the only argument until that engine goes away or an interrupt arrives.
func serve() error {
	flag.String("tracing", "", "accepted for the engine's sake; traces are not sent")
	flag.Parse()
	// The flags of the log (-v, -logtostderr) are registered by a library of the SDK, and InitLogging looks them up.
	logging.InitLogging(false, 0, false)

	executor, err := findExecutor()
	if err != nil {
		return err
	}
	engineAddress := flag.Arg(0)

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if engineAddress != "" {
		if err := rpcutil.Healthcheck(ctx, engineAddress, engineCheckInterval, stop); err != nil {
			return fmt.Errorf("watching the engine at %q: %w", engineAddress, err)
		}
	}
	cancel := make(chan bool)
	go func() {
		<-ctx.Done()
		close(cancel)
	}()

	handle, err := rpcutil.ServeWithOptions(rpcutil.ServeOptions{
		Cancel: cancel,
		Init: func(server *grpc.Server) error {
			pulumirpc.RegisterLanguageRuntimeServer(server, &host{executor: executor, engineAddress: engineAddress})
			return nil
		},
		Options: rpcutil.TracingServerInterceptorOptions(nil),
	})
	if err != nil {
		return err
	}
	fmt.Printf("%d\n", handle.Port)
	return <-handle.Done
}

// findExecutor returns the Python script that connects a program to the engine. It belongs to the SDK's module and lies
// beside this binary, also where this binary is reached through a symbolic link.
func findExecutor() (string, error) {
	const name = "pulumi-language-python-exec"
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if self, err = filepath.EvalSymlinks(self); err != nil {
		return "", err
	}
	beside := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(beside); err == nil {
		return beside, nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s is neither beside %s nor on PATH", name, self)
	}
	return filepath.Abs(path)
}
