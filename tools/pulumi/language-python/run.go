package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"

	sdk "github.com/pulumi/pulumi/sdk/v3"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"github.com/pulumi/pulumi/sdk/v3/python/toolchain"
)

const (
	// bailExitCode is the executor's way to say that the user has been shown what is wrong already.
	bailExitCode = 32
	// killDelay is how long a program may take to end once it has been told to.
	killDelay = 5 * time.Second
	// analyzerKind is the plugin kind of a policy pack.
	analyzerKind = "analyzer"
)

// lockedStream lets several goroutines send on one gRPC stream, which gRPC itself forbids.
type lockedStream[Response any] struct {
	grpc.ServerStreamingServer[Response]
	mutex sync.Mutex
}

// Send sends one response once every other goroutine's is sent.
func (s *lockedStream[Response]) Send(response *Response) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.ServerStreamingServer.Send(response)
}

// Run executes a program and waits for its end. An error of the program is in the response; an error of the call means
// that no program could be started.
func (h *host) Run(ctx context.Context, req *pulumirpc.RunRequest) (*pulumirpc.RunResponse, error) {
	if req.GetAttachDebugger() {
		return nil, errors.New("this language host cannot attach a debugger; install the official Pulumi for it")
	}
	tc, err := openReadyToolchain(ctx, req.GetInfo())
	if err != nil {
		return nil, err
	}
	cmd, err := command(ctx, tc, nil, h.runArguments(req)...)
	if err != nil {
		return nil, err
	}
	config, err := configEnvironment(req.GetConfig(), req.GetConfigSecretKeys())
	if err != nil {
		return nil, err
	}
	cmd.Env = append(cmd.Env, config...)
	// The engine reads the host's own output and shows it as the program's.
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr

	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return &pulumirpc.RunResponse{}, nil
	case errors.As(err, &exit) && exit.ExitCode() == bailExitCode:
		return &pulumirpc.RunResponse{Bail: true}, nil
	case errors.As(err, &exit):
		return &pulumirpc.RunResponse{Error: "the Python program ended with " + exit.String()}, nil
	default:
		return nil, fmt.Errorf("starting %s: %w", cmd.Path, err)
	}
}

// runArguments are the arguments of the Python interpreter for a program.
func (h *host) runArguments(req *pulumirpc.RunRequest) []string {
	info := req.GetInfo()
	args := []string{"-u", h.executor}
	for _, option := range [][2]string{
		{"--monitor", req.GetMonitorAddress()},
		{"--engine", h.engineAddress},
		{"--project", req.GetProject()},
		{"--root_directory", info.GetRootDirectory()},
		{"--stack", req.GetStack()},
		{"--pwd", req.GetPwd()},
		{"--organization", req.GetOrganization()},
		{"--dry_run", strconv.FormatBool(req.GetDryRun())},
		{"--parallel", strconv.Itoa(int(req.GetParallel()))},
	} {
		if option[1] != "" {
			args = append(args, option[0], option[1])
		}
	}
	args = append(args, filepath.Join(info.GetProgramDirectory(), info.GetEntryPoint()))
	return append(args, req.GetArgs()...)
}

// RunPlugin executes a component package, provider or policy pack written in Python, with its output on the stream.
func (h *host) RunPlugin(req *pulumirpc.RunPluginRequest, server pulumirpc.LanguageRuntime_RunPluginServer) error {
	if req.GetAttachDebugger() {
		return errors.New("this language host cannot attach a debugger; install the official Pulumi for it")
	}
	ctx := server.Context()
	tc, err := openReadyToolchain(ctx, req.GetInfo())
	if err != nil {
		return err
	}
	send := &lockedStream[pulumirpc.RunPluginResponse]{ServerStreamingServer: server}
	closer, stdout, stderr, err := rpcutil.MakeRunPluginStreams(send, false)
	if err != nil {
		return err
	}
	defer closer.Close()

	dir := req.GetInfo().GetProgramDirectory()
	if req.GetKind() == analyzerKind {
		// The proxy speaks today's protocol with the engine and starts the pack with what it was told about the stack.
		proxy, packStdout, err := sdk.NewPolicyProxy(ctx, stdout)
		if err != nil {
			return err
		}
		stack, err := proxy.AwaitConfiguration(ctx)
		if err != nil {
			return err
		}
		cmd, err := command(ctx, tc, req.GetEnv(), append(append(
			[]string{"-u", "-m", "pulumi.policy"}, req.GetArgs()...), dir)...)
		if err != nil {
			return err
		}
		env, err := policyEnvironment(stack)
		if err != nil {
			return err
		}
		cmd.Env, cmd.Dir = append(cmd.Env, env...), dir
		cmd.Stdout, cmd.Stderr = packStdout, stderr
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("starting %s: %w", cmd.Path, err)
		}
		return sendExitCode(send, proxy.Attach(ctx, cmd))
	}

	cmd, err := command(ctx, tc, req.GetEnv(), append([]string{"-u", dir}, req.GetArgs()...)...)
	if err != nil {
		return err
	}
	cmd.Dir = req.GetPwd()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return sendExitCode(send, cmd.Run())
}

// command is a call of the toolchain's interpreter that ends, first asked and then forced, with the context. Its
// environment is env, or the host's own if that is empty, inside the toolchain's virtual environment.
func command(ctx context.Context, tc toolchain.Toolchain, env []string, args ...string) (*exec.Cmd, error) {
	cmd, err := tc.Command(ctx, args...)
	if err != nil {
		return nil, err
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = killDelay
	if len(env) == 0 {
		cmd.Env = cmd.Environ()
		return cmd, nil
	}
	venv, err := tc.VirtualEnvPath(ctx)
	if err != nil {
		return nil, err
	}
	if cmd.Env = env; venv != "" {
		cmd.Env = toolchain.ActivateVirtualEnv(env, venv)
	}
	return cmd, nil
}

// sendExitCode tells the engine how a plugin ended.
func sendExitCode(server pulumirpc.LanguageRuntime_RunPluginServer, err error) error {
	code := 0
	if err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			return err
		}
		code = exit.ExitCode()
	}
	return server.Send(
		&pulumirpc.RunPluginResponse{Output: &pulumirpc.RunPluginResponse_Exitcode{Exitcode: int32(code)}})
}

// configEnvironment passes a stack's config to the Python SDK, which reads it from two variables as JSON.
func configEnvironment(config map[string]string, secretKeys []string) ([]string, error) {
	// A nil map or slice would become `null`, which the SDK takes for a dict or a list.
	if config == nil {
		config = map[string]string{}
	}
	if secretKeys == nil {
		secretKeys = []string{}
	}
	values, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	keys, err := json.Marshal(secretKeys)
	if err != nil {
		return nil, err
	}
	return []string{"PULUMI_CONFIG=" + string(values), "PULUMI_CONFIG_SECRET_KEYS=" + string(keys)}, nil
}

// policyEnvironment tells a policy pack about the stack that it looks at; a nil stack means that there is none.
func policyEnvironment(stack *pulumirpc.AnalyzerStackConfigureRequest) ([]string, error) {
	env, err := configEnvironment(stack.GetConfig(), stack.GetConfigSecretKeys())
	if err != nil || stack == nil {
		return env, err
	}
	env = append(env,
		"PULUMI_PROJECT="+stack.GetProject(),
		"PULUMI_STACK="+stack.GetStack(),
		"PULUMI_DRY_RUN="+strconv.FormatBool(stack.GetDryRun()))
	// The SDK has a default for stacks without an organization, as those of a file backend.
	if organization := stack.GetOrganization(); organization != "" {
		env = append(env, "PULUMI_ORGANIZATION="+organization)
	}
	return env, nil
}
