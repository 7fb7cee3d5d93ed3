package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/pulumi/pulumi/sdk/v3/go/common/util/fsutil"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	"github.com/pulumi/pulumi/sdk/v3/go/common/version"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"github.com/pulumi/pulumi/sdk/v3/python/toolchain"
)

// host answers the engine's LanguageRuntime calls for Python. What it does not implement is answered "unimplemented".
type host struct {
	pulumirpc.UnimplementedLanguageRuntimeServer

	// executor is the path of pulumi-language-python-exec.
	executor string
	// engineAddress is the host:port of the engine's own gRPC server, passed on to programs for their log.
	engineAddress string
}

// toolchains are the values of `runtime.options.toolchain` in Pulumi.yaml, PulumiPlugin.yaml and PulumiPolicy.yaml.
var toolchains = []string{"auto", "pip", "poetry", "uv"}

// parseOptions reads `runtime.options`. An option that the official host knows and this one does not carry out, or one
// that nobody knows, is an error: a program must not run differently here without anybody noticing.
func parseOptions(info *pulumirpc.ProgramInfo) (toolchain.PythonOptions, error) {
	options := toolchain.PythonOptions{Root: info.GetRootDirectory(), ProgramDir: info.GetProgramDirectory()}
	for key, value := range info.GetOptions().AsMap() {
		text, ok := value.(string)
		if !ok {
			return options, fmt.Errorf("runtime option %q is %v; a string is wanted", key, value)
		}
		switch key {
		case "virtualenv":
			options.Virtualenv = text
		case "toolchain":
			switch text {
			case "auto":
				options.Toolchain = toolchain.Auto
			case "pip":
				options.Toolchain = toolchain.Pip
			case "poetry":
				options.Toolchain = toolchain.Poetry
			case "uv":
				options.Toolchain = toolchain.Uv
			default:
				return options, fmt.Errorf("runtime option toolchain is %q; allowed are %q", text, toolchains)
			}
		case "typechecker":
			if !slices.Contains([]string{"", "none"}, text) {
				return options, fmt.Errorf(
					"runtime option typechecker is %q: the language host built from tools/pulumi runs no type checker; "+
						"install the official Pulumi for it, or take the option out", text)
			}
		default:
			return options, fmt.Errorf(
				"runtime option %q is unknown; allowed are \"virtualenv\", \"toolchain\" and \"typechecker\"", key)
		}
	}
	return options, nil
}

// openToolchain returns the toolchain that a program, plugin or policy pack declares.
func openToolchain(info *pulumirpc.ProgramInfo) (toolchain.Toolchain, error) {
	options, err := parseOptions(info)
	if err != nil {
		return nil, err
	}
	return toolchain.ResolveToolchain(options)
}

// openReadyToolchain is [openToolchain], and an error that says how to make the virtual environment if there is none.
func openReadyToolchain(ctx context.Context, info *pulumirpc.ProgramInfo) (toolchain.Toolchain, error) {
	tc, err := openToolchain(info)
	if err != nil {
		return nil, err
	}
	return tc, tc.ValidateVenv(ctx)
}

// listsNothing tells whether a program uses pip and has no requirements.txt.
func listsNothing(info *pulumirpc.ProgramInfo) bool {
	dir := info.GetProgramDirectory()
	if _, err := os.Stat(filepath.Join(dir, "requirements.txt")); !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	options, err := parseOptions(info)
	if err != nil || options.Toolchain == toolchain.Uv || options.Toolchain == toolchain.Poetry {
		return false
	}
	if options.Toolchain == toolchain.Auto {
		for _, lockfile := range []string{"uv.lock", "poetry.lock"} {
			if _, err := fsutil.Searchup(dir, lockfile); !errors.Is(err, fsutil.ErrNotFound) {
				return false
			}
		}
	}
	return true
}

// Handshake is the engine's first call; its address is known from the command line already.
func (h *host) Handshake(
	context.Context, *pulumirpc.LanguageHandshakeRequest,
) (*pulumirpc.LanguageHandshakeResponse, error) {
	return &pulumirpc.LanguageHandshakeResponse{}, nil
}

// GetPluginInfo tells the version of the engine that this host was built with.
func (h *host) GetPluginInfo(context.Context, *emptypb.Empty) (*pulumirpc.PluginInfo, error) {
	return &pulumirpc.PluginInfo{Version: version.Version}, nil
}

// GetRequiredPackages lists nothing: the engine then looks for each plugin when the program first uses it.
func (h *host) GetRequiredPackages(
	context.Context, *pulumirpc.GetRequiredPackagesRequest,
) (*pulumirpc.GetRequiredPackagesResponse, error) {
	return &pulumirpc.GetRequiredPackagesResponse{}, nil
}

// InstallDependencies makes the virtual environment and installs what the project lists. Where pip has nothing to
// install, an environment that is there already stays as it is, and so does a system's own Python.
func (h *host) InstallDependencies(
	req *pulumirpc.InstallDependenciesRequest, server pulumirpc.LanguageRuntime_InstallDependenciesServer,
) error {
	tc, err := openToolchain(req.GetInfo())
	if err != nil {
		return err
	}
	if listsNothing(req.GetInfo()) && tc.ValidateVenv(server.Context()) == nil {
		return nil
	}
	// Only one goroutine may send on a stream at a time; toolchains write both outputs at once.
	send := &lockedStream[pulumirpc.InstallDependenciesResponse]{ServerStreamingServer: server}
	closer, stdout, stderr, err := rpcutil.MakeInstallDependenciesStreams(send, req.GetIsTerminal())
	if err != nil {
		return err
	}
	err = tc.InstallDependencies(
		server.Context(), req.GetInfo().GetProgramDirectory(), req.GetUseLanguageVersionTools(), true, stdout, stderr)
	if closeErr := closer.Close(); err == nil {
		err = closeErr
	}
	return err
}

// About describes the Python interpreter that a program would run under.
func (h *host) About(ctx context.Context, req *pulumirpc.AboutRequest) (*pulumirpc.AboutResponse, error) {
	tc, err := openReadyToolchain(ctx, req.GetInfo())
	if err != nil {
		return nil, err
	}
	about, err := tc.About(ctx)
	if err != nil {
		return nil, err
	}
	return &pulumirpc.AboutResponse{Executable: about.PythonExecutable, Version: about.PythonVersion.String()}, nil
}

// GetProgramDependencies lists the Python packages that are installed for a program.
func (h *host) GetProgramDependencies(
	ctx context.Context, req *pulumirpc.GetProgramDependenciesRequest,
) (*pulumirpc.GetProgramDependenciesResponse, error) {
	tc, err := openReadyToolchain(ctx, req.GetInfo())
	if err != nil {
		return nil, err
	}
	packages, err := tc.ListPackages(ctx, req.GetTransitiveDependencies())
	if err != nil {
		return nil, err
	}
	response := &pulumirpc.GetProgramDependenciesResponse{}
	for _, pkg := range packages {
		response.Dependencies = append(
			response.Dependencies, &pulumirpc.DependencyInfo{Name: pkg.Name, Version: pkg.Version})
	}
	return response, nil
}
