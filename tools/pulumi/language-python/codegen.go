package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/blang/semver"

	"github.com/pulumi/pulumi/pkg/v3/codegen/python"
	"github.com/pulumi/pulumi/pkg/v3/codegen/schema"
	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

// GeneratePackage writes the Python SDK of a package, as `pulumi package add` and `gen-sdk` ask.
func (h *host) GeneratePackage(
	_ context.Context, req *pulumirpc.GeneratePackageRequest,
) (*pulumirpc.GeneratePackageResponse, error) {
	var spec schema.PackageSpec
	if err := json.Unmarshal([]byte(req.GetSchema()), &spec); err != nil {
		return nil, fmt.Errorf("reading the package's schema: %w", err)
	}
	loader, err := schema.NewLoaderClient(req.GetLoaderTarget())
	if err != nil {
		return nil, err
	}
	defer loader.Close()
	cached := schema.NewCachedLoader(loader)

	pkg, diagnostics, err := schema.BindSpec(spec, cached, schema.ValidationOptions{AllowDanglingReferences: true})
	if err != nil {
		return nil, err
	}
	response := &pulumirpc.GeneratePackageResponse{Diagnostics: plugin.HclDiagnosticsToRPCDiagnostics(diagnostics)}
	if diagnostics.HasErrors() {
		return response, nil
	}
	files, err := python.GeneratePackage("pulumi-language-python", pkg, req.GetExtraFiles(), cached)
	if err != nil {
		return nil, err
	}
	for name, content := range files {
		path := filepath.Join(req.GetDirectory(), name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return nil, err
		}
	}
	return response, nil
}

// Link adds generated SDKs to a program's dependencies and returns how to import them.
func (h *host) Link(ctx context.Context, req *pulumirpc.LinkRequest) (*pulumirpc.LinkResponse, error) {
	tc, err := openToolchain(req.GetInfo())
	if err != nil {
		return nil, err
	}
	loader, err := schema.NewLoaderClient(req.GetLoaderTarget())
	if err != nil {
		return nil, err
	}
	defer loader.Close()

	paths := map[string]string{}
	var instructions strings.Builder
	instructions.WriteString("You can import the SDK in your Python code with:\n\n")
	for _, dependency := range req.GetPackages() {
		descriptor, err := packageDescriptor(dependency.GetPackage())
		if err != nil {
			return nil, err
		}
		pkg, err := loader.LoadPackageV2(ctx, descriptor)
		if err != nil {
			return nil, fmt.Errorf("loading the schema of %s: %w", descriptor.PackageName(), err)
		}
		name, err := importName(pkg)
		if err != nil {
			return nil, err
		}
		paths[name] = dependency.GetPath()
		fmt.Fprintf(&instructions, "  import %s as %s\n", name, python.PyName(pkg.Name))
	}
	if err := tc.LinkPackages(ctx, paths); err != nil {
		return nil, err
	}
	return &pulumirpc.LinkResponse{ImportInstructions: instructions.String()}, nil
}

// packageDescriptor names a package for the schema loader.
func packageDescriptor(dependency *pulumirpc.PackageDependency) (*schema.PackageDescriptor, error) {
	descriptor := &schema.PackageDescriptor{Name: dependency.GetName(), DownloadURL: dependency.GetServer()}
	if text := dependency.GetVersion(); text != "" {
		version, err := semver.ParseTolerant(text)
		if err != nil {
			return nil, fmt.Errorf("package %s has the version %q: %w", dependency.GetName(), text, err)
		}
		descriptor.Version = &version
	}
	if parameterization := dependency.GetParameterization(); parameterization != nil {
		version, err := semver.ParseTolerant(parameterization.GetVersion())
		if err != nil {
			return nil, fmt.Errorf(
				"package %s has the version %q: %w", parameterization.GetName(), parameterization.GetVersion(), err)
		}
		descriptor.Parameterization = &schema.ParameterizationDescriptor{
			Name: parameterization.GetName(), Version: version, Value: parameterization.GetValue(),
		}
	}
	return descriptor, nil
}

// importName is the name under which the generated SDK of a package is imported.
func importName(pkg *schema.Package) (string, error) {
	if err := pkg.ImportLanguages(map[string]schema.Language{"python": python.Importer}); err != nil {
		return "", err
	}
	if info, ok := pkg.Language["python"].(python.PackageInfo); ok && info.PackageName != "" {
		return info.PackageName, nil
	}
	return python.PyPack(pkg.Namespace, pkg.Name), nil
}
