package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"viaduct/deploy/manifest"
)

// manifests is where the chart and the overlays are.
const manifests = "../../../deploy"

// renderOverlay renders a Kustomize overlay as an operator does who has made a
// key and written viaduct.env.
func renderOverlay(t *testing.T, overlay string, settings ...string) []runtime.Object {
	t.Helper()
	dir := tempDir(t)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(manifests, "kustomize"))); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"token.key":   keyLine(),
		"viaduct.env": strings.Join(settings, "\n") + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, "overlays", overlay, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	objects, err := manifest.Kustomize(filepath.Join(dir, "overlays", overlay))
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// keyLine is a key as `openssl rand -base64 32` prints it.
func keyLine() string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)) + "\n"
}

// startContainer starts viaduct on a host with the arguments, the variables and
// the files that a node would give it. The entries of Secrets that are not among
// the objects are given.
func startContainer(t *testing.T, host Host, objects []runtime.Object, fields map[string]string, given map[string][]byte) (*Viaduct, *corev1.Container) {
	t.Helper()
	template, _, err := manifest.Workload(objects)
	if err != nil {
		t.Fatal(err)
	}
	container, err := manifest.Viaduct(&template.Spec)
	if err != nil {
		t.Fatal(err)
	}
	args, env, err := manifest.Start(container, objects, fields)
	if err != nil {
		t.Fatal(err)
	}
	for _, mount := range container.VolumeMounts {
		volume := template.Spec.Volumes[slices.IndexFunc(template.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == mount.Name })]
		dir := tempDir(t)
		writeSecret(t, dir, objects, volume.Secret.SecretName, given)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], mount.MountPath+"/", dir+"/")
		}
	}
	return startPlainViaduct(t, host, env, args...), container
}

func writeSecret(t *testing.T, dir string, objects []runtime.Object, name string, given map[string][]byte) {
	t.Helper()
	entries := given
	for _, secret := range manifest.All[*corev1.Secret](objects) {
		if secret.Name == name {
			entries = secret.Data
		}
	}
	for entry, content := range entries {
		if err := os.WriteFile(filepath.Join(dir, entry), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// containerPort is the number of a container's port.
func containerPort(t *testing.T, c *corev1.Container, port intstr.IntOrString) uint16 {
	t.Helper()
	for _, p := range c.Ports {
		if p.Name == port.StrVal || port.Type == intstr.Int && p.ContainerPort == port.IntVal {
			return uint16(p.ContainerPort)
		}
	}
	t.Fatalf("the container has no port %s", &port)
	return 0
}

// wantProbed asks what the node would ask viaduct on a host.
func wantProbed(t *testing.T, host Host, container *corev1.Container, probe *corev1.Probe, want int) {
	t.Helper()
	at := netip.AddrPortFrom(host.IP, containerPort(t, container, probe.HTTPGet.Port))
	via := &Viaduct{Admin: "http://" + at.String()}
	if status, text := via.ask(t, probe.HTTPGet.Path); status != want {
		t.Errorf("%s answers %d: %s", probe.HTTPGet.Path, status, text)
	}
}

// TestManifestsStart: viaduct takes the arguments, variables and files of every
// manifest, and its probes are answered.
func TestManifestsStart(t *testing.T) {
	certFile, keyFile := issue(t, "phone", "phone.example.org")
	secrets := map[string][]byte{"token.key": []byte(keyLine()), "tls.crt": readFile(t, certFile), "tls.key": readFile(t, keyFile)}
	for _, name := range []string{"service", "everything", "hostnetwork", "cluster"} {
		t.Run("helm "+name, func(t *testing.T) {
			t.Parallel()
			chart := filepath.Join(manifests, "helm", "viaduct")
			objects, err := manifest.Helm(chart, filepath.Join(chart, "ci", name+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			host := newNamespace(t)
			via, container := startContainer(t, host, objects, map[string]string{manifest.PodIndex: "0", "status.hostIP": host.IP.String()}, secrets)
			via.WaitLog(t, "listening")
			wantProbed(t, host, container, container.LivenessProbe, http.StatusOK)
			wantProbed(t, host, container, container.ReadinessProbe, http.StatusServiceUnavailable)
		})
	}
	t.Run("kustomize sidecar", func(t *testing.T) {
		t.Parallel()
		objects := renderOverlay(t, "sidecar")
		host := newNamespace(t)
		via, container := startContainer(t, host, objects, nil, nil)
		listening := via.WaitLog(t, "listening").Fields
		if got := fmt.Sprint(listening["advertised"]); got != "[UDP 127.0.0.1:5070]" {
			t.Errorf("beside Asterisk viaduct is at %s", got)
		}
		wantProbed(t, host, container, container.StartupProbe, http.StatusOK)
		wantProbed(t, host, container, container.ReadinessProbe, http.StatusServiceUnavailable)

		asterisk := netip.AddrPortFrom(loopback.IP, 5060)
		inPod := Host{IP: asterisk.Addr(), Namespace: host.Namespace, Harness: host.Harness}
		startSipp(t, inPod, &Kamailio{UDP: asterisk}, []string{"recv-options"}, At(asterisk), Calls(100))
		via.WaitLog(t, "upstream up")
		wantProbed(t, host, container, container.ReadinessProbe, http.StatusOK)
	})
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
