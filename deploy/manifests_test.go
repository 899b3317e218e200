// Package deploy_test holds what is under deploy against what it is for.
package deploy_test

import (
	"crypto/rand"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"viaduct/deploy/manifest"
)

const chart = "helm/viaduct"

// A rendering is one way to deploy viaduct in Kubernetes, as it is applied.
type rendering struct {
	name    string
	objects func() ([]runtime.Object, error)
}

var renderings = []rendering{
	{"helm service", helm("service")},
	{"helm everything", helm("everything")},
	{"helm hostnetwork", helm("hostnetwork")},
	{"helm cluster", helm("cluster")},
	{"kustomize edge", kustomize("overlays/edge")},
	{"kustomize sidecar", kustomize("overlays/sidecar")},
	{"kustomize hostnetwork", kustomize("hostnetwork")},
}

// helm renders the chart with a file of values, once for all tests.
func helm(values string) func() ([]runtime.Object, error) {
	return sync.OnceValues(func() ([]runtime.Object, error) {
		return manifest.Helm(chart, filepath.Join(chart, "ci", values+".yaml"))
	})
}

// kustomize renders a kustomization, once for all tests, as an operator does who
// has made the key.
func kustomize(dir string) func() ([]runtime.Object, error) {
	return sync.OnceValues(func() ([]runtime.Object, error) {
		root, err := os.MkdirTemp("", "viaduct-kustomize-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(root)
		if err := os.CopyFS(root, os.DirFS("kustomize")); err != nil {
			return nil, err
		}
		for name, text := range map[string]string{
			"overlays/edge/token.key":        keyLine(),
			"overlays/sidecar/token.key":     keyLine(),
			"hostnetwork/kustomization.yaml": "resources: [../overlays/edge]\ncomponents: [../components/hostnetwork]\n",
		} {
			file := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				return nil, err
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				return nil, err
			}
		}
		return manifest.Kustomize(filepath.Join(root, dir))
	})
}

// keyLine is what `openssl rand -base64 32` prints.
func keyLine() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return base64.StdEncoding.EncodeToString(key) + "\n"
}

// A deployment is a rendering with its parts at hand.
type deployment struct {
	objects []runtime.Object
	pod     *corev1.PodTemplateSpec
	set     *appsv1.StatefulSet // nil for the sidecar
	viaduct *corev1.Container
}

// eachDeployment runs a test for each rendering.
func eachDeployment(t *testing.T, test func(t *testing.T, d deployment)) {
	for _, r := range renderings {
		t.Run(r.name, func(t *testing.T) {
			objects, err := r.objects()
			if err != nil {
				t.Fatal(err)
			}
			d := deployment{objects: objects}
			if d.pod, d.set, err = manifest.Workload(objects); err != nil {
				t.Fatal(err)
			}
			if d.viaduct, err = manifest.Viaduct(&d.pod.Spec); err != nil {
				t.Fatal(err)
			}
			test(t, d)
		})
	}
}

// flag is the value of a flag of viaduct, and whether it is given.
func (d deployment) flag(name string) (string, bool) {
	for _, arg := range d.viaduct.Args {
		if value, ok := strings.CutPrefix(arg, "--"+name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// TestStrictDecoding: what an API server would refuse or lose is an error here.
func TestStrictDecoding(t *testing.T) {
	for name, text := range map[string]string{
		"a field that there is not": "apiVersion: v1\nkind: Service\nspec: {sessionAfinity: ClientIP}",
		"a field twice":             "apiVersion: v1\nkind: Service\nspec: {type: ClusterIP, type: NodePort}",
		"a kind that there is not":  "apiVersion: v1\nkind: Servise",
		"a field of a ServiceMonitor": "apiVersion: monitoring.coreos.com/v1\nkind: ServiceMonitor\n" +
			"spec: {endpoints: [{porz: admin}]}",
	} {
		if objects, err := manifest.Decode([]byte("---\n" + text + "\n")); err == nil {
			t.Errorf("%s: %v", name, objects)
		}
	}
	objects, err := manifest.Decode([]byte("# Source: a comment\napiVersion: v1\nkind: Service\n---\napiVersion: v1\nkind: Secret\n"))
	if err != nil || len(objects) != 2 {
		t.Errorf("%v, %v", objects, err)
	}
}

// TestHelmLint: helm has nothing to say.
func TestHelmLint(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(chart, "ci", "*.yaml"))
	if err != nil || len(files) != 4 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if err := manifest.HelmLint(chart, file); err != nil {
			t.Error(err)
		}
	}
}

// TestHelmNeeds: what has no default is asked for by its name.
func TestHelmNeeds(t *testing.T) {
	for values, want := range map[string]string{
		"sip: {advertise: 10.0.0.2$(POD_INDEX)}": "upstreams: at least one is needed",
		"upstreams: [sip:10.0.0.5]":              "sip.advertise: an address for each replica",
		"upstreams: [sip:10.0.0.5]\nreplica: 1":  "replica",
	} {
		file := filepath.Join(t.TempDir(), "values.yaml")
		if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := manifest.Helm(chart, file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", values, err)
		}
	}
}
