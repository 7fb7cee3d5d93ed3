package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"github.com/pulumi/pulumi/sdk/v3/python/toolchain"
)

// connect serves a host in memory and returns a client of it.
func connect(t *testing.T, served *host) pulumirpc.LanguageRuntimeClient {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	pulumirpc.RegisterLanguageRuntimeServer(server, served)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:///host",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return pulumirpc.NewLanguageRuntimeClient(conn)
}

// program writes a folder with one Python file and returns what the engine would say about it.
func program(t *testing.T, source string, options map[string]any) *pulumirpc.ProgramInfo {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "__main__.py"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	fields, err := structpb.NewStruct(options)
	if err != nil {
		t.Fatal(err)
	}
	return &pulumirpc.ProgramInfo{RootDirectory: dir, ProgramDirectory: dir, EntryPoint: ".", Options: fields}
}

// executor writes a stand-in for pulumi-language-python-exec.
func executor(t *testing.T, source string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "exec.py")
	if err := os.WriteFile(path, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestParseOptions(t *testing.T) {
	options, err := parseOptions(program(t, "", map[string]any{"virtualenv": "venv", "toolchain": "pip"}))
	if err != nil || options.Virtualenv != "venv" || options.Toolchain != toolchain.Pip {
		t.Fatalf("got %+v, %v", options, err)
	}
	for want, bad := range map[string]map[string]any{
		`toolchain is "conda"; allowed are ["auto" "pip" "poetry" "uv"]`: {"toolchain": "conda"},
		`typechecker is "mypy"`:                    {"typechecker": "mypy"},
		`"virtualenv" is true; a string is wanted`: {"virtualenv": true},
		`"venv" is unknown`:                        {"venv": "x"},
	} {
		if _, err := parseOptions(program(t, "", bad)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %s", bad, err, want)
		}
	}
}

func TestRunPassesTheStackToTheExecutor(t *testing.T) {
	record := filepath.Join(t.TempDir(), "record")
	t.Setenv("RECORD", record)
	client := connect(t, &host{engineAddress: "127.0.0.1:1", executor: executor(t, `
import os, sys
with open(os.environ["RECORD"], "w") as f:
    print(*sys.argv[1:], os.environ["PULUMI_CONFIG"], os.environ["PULUMI_CONFIG_SECRET_KEYS"], sep="\n", file=f)
`)})
	info := program(t, "", nil)
	response, err := client.Run(t.Context(), &pulumirpc.RunRequest{
		Info: info, Project: "p", Stack: "s", DryRun: true, Parallel: 4, MonitorAddress: "127.0.0.1:2", Args: []string{"x"},
	})
	if err != nil || response.GetError() != "" || response.GetBail() {
		t.Fatalf("got %v, %v", response, err)
	}
	recorded, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"--monitor", "127.0.0.1:2", "--engine", "127.0.0.1:1", "--project", "p", "--root_directory", info.GetRootDirectory(),
		"--stack", "s", "--dry_run", "true", "--parallel", "4", info.GetProgramDirectory(), "x",
		"{}", "[]", // never null
	}
	if got := strings.Fields(string(recorded)); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestRunTellsHowAProgramEnded(t *testing.T) {
	for code, want := range map[string]*pulumirpc.RunResponse{
		"0":  {},
		"32": {Bail: true},
		"3":  {Error: "the Python program ended with exit status 3"},
	} {
		client := connect(t, &host{executor: executor(t, "raise SystemExit("+code+")")})
		got, err := client.Run(t.Context(), &pulumirpc.RunRequest{Info: program(t, "", nil)})
		if err != nil || got.GetBail() != want.GetBail() || got.GetError() != want.GetError() {
			t.Errorf("exit code %s: got %v, %v; want %v", code, got, err, want)
		}
	}
}

func TestRunSaysHowToMakeAMissingEnvironment(t *testing.T) {
	client := connect(t, &host{})
	_, err := client.Run(
		t.Context(), &pulumirpc.RunRequest{Info: program(t, "", map[string]any{"virtualenv": "none", "toolchain": "pip"})})
	if err == nil || !strings.Contains(err.Error(), "-m venv") {
		t.Errorf("got %v", err)
	}
}

// receive collects a plugin's output until its exit code arrives.
func receive(t *testing.T, stream pulumirpc.LanguageRuntime_RunPluginClient) (stdout, stderr string, code int32) {
	t.Helper()
	code = -1
	for {
		message, err := stream.Recv()
		if err == io.EOF {
			return stdout, stderr, code
		}
		if err != nil {
			t.Fatal(err)
		}
		switch output := message.GetOutput().(type) {
		case *pulumirpc.RunPluginResponse_Stdout:
			stdout += string(output.Stdout)
		case *pulumirpc.RunPluginResponse_Stderr:
			stderr += string(output.Stderr)
		case *pulumirpc.RunPluginResponse_Exitcode:
			code = output.Exitcode
		}
	}
}

func TestRunPluginStreamsOutputAndExitCode(t *testing.T) {
	client := connect(t, &host{})
	stream, err := client.RunPlugin(t.Context(), &pulumirpc.RunPluginRequest{
		Info: program(t, `
import os, sys
print(sys.argv[1], os.environ["GIVEN"], os.getcwd())
print("wrong", file=sys.stderr)
sys.exit(7)
`, nil),
		Pwd: "/", Args: []string{"127.0.0.1:9"}, Env: append(os.Environ(), "GIVEN=yes"), Kind: "resource",
	})
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := receive(t, stream)
	if stdout != "127.0.0.1:9 yes /\n" || stderr != "wrong\n" || code != 7 {
		t.Errorf("got %q, %q, %d", stdout, stderr, code)
	}
}

func TestRunPluginEndsWithItsCaller(t *testing.T) {
	client := connect(t, &host{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// The plugin holds the writing end of a pipe for as long as it lives.
	pipe := filepath.Join(t.TempDir(), "alive")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := client.RunPlugin(ctx, &pulumirpc.RunPluginRequest{
		Info: program(t, `
import signal, sys
alive = open(sys.argv[1], "w")
def end(*_):
    print("told to end", file=alive)
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("ready", file=alive, flush=True)
signal.pause()
`, nil),
		Args: []string{pipe},
	}); err != nil {
		t.Fatal(err)
	}
	alive, err := os.Open(pipe)
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	lines := bufio.NewScanner(alive)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("got %q, %v", lines.Text(), lines.Err())
	}
	cancel()
	if !lines.Scan() || lines.Text() != "told to end" || lines.Scan() {
		t.Errorf("got %q, %v", lines.Text(), lines.Err())
	}
}

func TestPolicyEnvironment(t *testing.T) {
	env, err := policyEnvironment(nil)
	if err != nil || !slices.Equal(env, []string{"PULUMI_CONFIG={}", "PULUMI_CONFIG_SECRET_KEYS=[]"}) {
		t.Errorf("no stack: got %q, %v", env, err)
	}
	env, err = policyEnvironment(&pulumirpc.AnalyzerStackConfigureRequest{
		Project: "p", Stack: "s", DryRun: true, Config: map[string]string{"p:a": "1"}, ConfigSecretKeys: []string{"p:a"},
	})
	want := []string{
		`PULUMI_CONFIG={"p:a":"1"}`, `PULUMI_CONFIG_SECRET_KEYS=["p:a"]`,
		"PULUMI_PROJECT=p", "PULUMI_STACK=s", "PULUMI_DRY_RUN=true",
	}
	if err != nil || !slices.Equal(env, want) {
		t.Errorf("got %q, %v", env, err)
	}
}

func TestInstallLeavesAnEnvironmentAloneThatNeedsNothing(t *testing.T) {
	info := program(t, "", nil)
	if !listsNothing(info) {
		t.Error("no requirements.txt: there is nothing to install")
	}
	stream, err := connect(t, &host{}).InstallDependencies(
		t.Context(), &pulumirpc.InstallDependenciesRequest{Info: info})
	if err != nil {
		t.Fatal(err)
	}
	if message, err := stream.Recv(); err != io.EOF {
		t.Errorf("got %v, %v", message, err)
	}
	for _, name := range []string{"requirements.txt", "uv.lock"} {
		info := program(t, "", nil)
		if err := os.WriteFile(filepath.Join(info.GetProgramDirectory(), name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if listsNothing(info) {
			t.Errorf("%s: there may be something to install", name)
		}
	}
}

func TestGetPluginInfo(t *testing.T) {
	if _, err := connect(t, &host{}).GetPluginInfo(t.Context(), &emptypb.Empty{}); err != nil {
		t.Error(err)
	}
}
