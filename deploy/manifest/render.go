// Package manifest renders the Helm chart and the Kustomize overlays of deploy,
// reads what comes out as strictly as an API server does, and tells how a node
// would start a container of it. It is for tests: they hold against viaduct what
// an operator would apply.
//
//	objects, err := manifest.Kustomize("deploy/kustomize/overlays/edge")
//	template, _, err := manifest.Workload(objects)
package manifest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// The tools run at a fixed version and stay out of go.mod.
const (
	helm      = "helm.sh/helm/v3/cmd/helm@v3.22.0"
	kustomize = "sigs.k8s.io/kustomize/kustomize/v5@v5.7.1"
)

// kubeVersion is the oldest Kubernetes that the chart is for.
const kubeVersion = "1.30.0"

// Offline builds the tools, and returns the variables with which a process that
// has no network finds them: what go has downloaded is a module proxy, too.
func Offline() (env []string, err error) {
	for _, tool := range []string{helm, kustomize} {
		if _, err := run(tool, "version"); err != nil {
			return nil, err
		}
	}
	cache, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		return nil, err
	}
	return []string{"GOPROXY=file://" + filepath.Join(strings.TrimSpace(string(cache)), "cache", "download")}, nil
}

// HelmLint returns what helm finds wrong with a chart and a file of values.
func HelmLint(chart, values string) error {
	_, err := run(helm, "lint", "--strict", "--kube-version="+kubeVersion, "--values="+values, chart)
	return err
}

// Helm renders a chart as the release viaduct, with a file of values.
func Helm(chart, values string) ([]runtime.Object, error) {
	return decoded(run(helm, "template", "viaduct", chart, "--kube-version="+kubeVersion, "--values="+values))
}

// Kustomize renders the directory of a kustomization.
func Kustomize(dir string) ([]runtime.Object, error) {
	return decoded(run(kustomize, "build", dir))
}

func run(tool string, args ...string) ([]byte, error) {
	cmd := exec.Command("go", append([]string{"run", tool}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s%s", strings.Join(append([]string{tool}, args...), " "), err, output, stderr.Bytes())
	}
	return output, nil
}

func decoded(text []byte, err error) ([]runtime.Object, error) {
	if err != nil {
		return nil, err
	}
	return Decode(text)
}

// Decode reads the documents of a YAML text. A kind that viaduct's manifests do
// not have, a field that its type does not have and one that stands twice are errors.
func Decode(text []byte) ([]runtime.Object, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme, monitoringv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	var objects []runtime.Object
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("%w in\n%s", err, document)
		}
		objects = append(objects, object)
	}
}
