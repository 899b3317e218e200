package deploy_test

import (
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"viaduct/deploy/manifest"
)

// TestPodSecurity: viaduct runs as nobody in particular, and can change nothing.
func TestPodSecurity(t *testing.T) {
	eachDeployment(t, func(t *testing.T, d deployment) {
		pod, own := d.pod.Spec.SecurityContext, d.viaduct.SecurityContext
		if pod == nil || own == nil {
			t.Fatal("no security context")
		}
		nonRoot, user := own.RunAsNonRoot, own.RunAsUser
		if nonRoot == nil {
			nonRoot, user = pod.RunAsNonRoot, pod.RunAsUser
		}
		for what, ok := range map[string]bool{
			"it may be root":                 isTrue(nonRoot) && user != nil && *user > 0,
			"no seccomp profile":             pod.SeccompProfile != nil && pod.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault,
			"it may write to its root":       isTrue(own.ReadOnlyRootFilesystem),
			"it may gain privileges":         own.AllowPrivilegeEscalation != nil && !*own.AllowPrivilegeEscalation,
			"it keeps capabilities":          own.Capabilities != nil && slices.Equal(own.Capabilities.Drop, []corev1.Capability{"ALL"}) && len(own.Capabilities.Add) == 0,
			"it is privileged":               own.Privileged == nil,
			"it has a token of the API":      isFalse(d.pod.Spec.AutomountServiceAccountToken),
			"Services' names are variables":  isFalse(d.pod.Spec.EnableServiceLinks),
			"its memory is without a bound":  !d.viaduct.Resources.Limits.Memory().IsZero(),
			"it may take any share of a CPU": !d.viaduct.Resources.Requests.Cpu().IsZero(),
		} {
			if !ok {
				t.Error(what)
			}
		}
	})
}

func isTrue(b *bool) bool  { return b != nil && *b }
func isFalse(b *bool) bool { return b != nil && !*b }

// TestPodPorts: the ports that a pod shows are those that viaduct listens at, the
// SIP side by UDP and TCP.
func TestPodPorts(t *testing.T) {
	eachDeployment(t, func(t *testing.T, d deployment) {
		for _, p := range []struct {
			name, flag string
			protocol   corev1.Protocol
		}{
			{"websocket", "listen", corev1.ProtocolTCP},
			{"admin", "admin", corev1.ProtocolTCP},
			{"sip-udp", "sip-listen", corev1.ProtocolUDP},
			{"sip-tcp", "sip-listen", corev1.ProtocolTCP},
			{"sip-tls", "sip-tls-listen", corev1.ProtocolTCP},
		} {
			listen, given := d.flag(p.flag)
			shown := slices.ContainsFunc(d.viaduct.Ports, func(c corev1.ContainerPort) bool {
				protocol := c.Protocol
				if protocol == "" {
					protocol = corev1.ProtocolTCP
				}
				return c.Name == p.name && protocol == p.protocol && listen == ":"+strconv.Itoa(int(c.ContainerPort))
			})
			// What is on the pod's loopback nobody else has to know.
			if want := given && !strings.HasPrefix(listen, "127."); shown != want {
				t.Errorf("port %s, --%s=%s: shown %t", p.name, p.flag, listen, shown)
			}
		}
	})
}

// TestPodProbes: viaduct is restarted by /healthz and gets browsers by /readyz, at
// the admin listener. What answers there is asked in the tests of cmd/viaduct/e2e.
func TestPodProbes(t *testing.T) {
	eachDeployment(t, func(t *testing.T, d deployment) {
		for name, probe := range map[string]*corev1.Probe{"/healthz": d.viaduct.LivenessProbe, "/readyz": d.viaduct.ReadinessProbe} {
			if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != name || probe.HTTPGet.Port.StrVal != "admin" {
				t.Errorf("%s: %v", name, probe)
			}
		}
	})
}

// TestPodDrain: a pod has the time that its calls are waited for, and the browsers
// that come until everybody knows are not refused.
func TestPodDrain(t *testing.T) {
	eachDeployment(t, func(t *testing.T, d deployment) {
		text, _ := d.flag("drain-timeout")
		drain, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		before := time.Duration(0)
		if d.set != nil { // a sidecar ends after its SIP server
			if d.viaduct.Lifecycle == nil || d.viaduct.Lifecycle.PreStop == nil || d.viaduct.Lifecycle.PreStop.Sleep == nil {
				t.Fatal("no preStop that needs no program in the image")
			}
			before = time.Duration(d.viaduct.Lifecycle.PreStop.Sleep.Seconds) * time.Second
		}
		grace := d.pod.Spec.TerminationGracePeriodSeconds
		if grace == nil || time.Duration(*grace)*time.Second < before+drain+10*time.Second {
			t.Errorf("%v of grace, for %v and %v", grace, before, drain)
		}
	})
}

// TestPodKeys: the key file is in a Secret that all replicas share, and a renewed
// one reaches the pod.
func TestPodKeys(t *testing.T) {
	eachDeployment(t, func(t *testing.T, d deployment) {
		for _, flag := range []string{"token-key-file", "tls-cert", "tls-key", "sip-tls-cert", "sip-tls-key"} {
			file, given := d.flag(flag)
			if !given && flag != "token-key-file" {
				continue
			}
			secret := d.secretAt(t, path.Dir(file))
			if flag == "token-key-file" && !d.knowsSecret(secret, path.Base(file)) {
				t.Errorf("nothing says what is in the Secret %s", secret)
			}
		}
	})
}

// secretAt is the name of the Secret of which the whole is mounted there.
func (d deployment) secretAt(t *testing.T, dir string) string {
	t.Helper()
	for _, mount := range d.viaduct.VolumeMounts {
		for _, volume := range d.pod.Spec.Volumes {
			if mount.MountPath == dir && mount.SubPath == "" && mount.Name == volume.Name && volume.Secret != nil {
				return volume.Secret.SecretName
			}
		}
	}
	t.Errorf("no Secret is mounted at %s", dir)
	return ""
}

// knowsSecret tells whether the Secret has that entry, or is the operator's own.
func (d deployment) knowsSecret(name, entry string) bool {
	for _, secret := range manifest.All[*corev1.Secret](d.objects) {
		if secret.Name == name {
			return len(secret.Data[entry]) > 0
		}
	}
	return name == "keys" // as the values say
}

// TestSidecar: viaduct starts before Asterisk and ends after it, and SIP stays in
// the pod.
func TestSidecar(t *testing.T) {
	eachDeployment(t, func(t *testing.T, d deployment) {
		if d.set != nil {
			return
		}
		if d.viaduct.RestartPolicy == nil || *d.viaduct.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			t.Error("viaduct is no native sidecar")
		}
		if d.viaduct.StartupProbe == nil {
			t.Error("nothing says when Asterisk may start")
		}
		for _, flag := range []string{"upstream", "sip-listen"} {
			if value, _ := d.flag(flag); !strings.HasPrefix(strings.TrimPrefix(value, "sip:"), "127.0.0.1:") {
				t.Errorf("--%s=%s is not on loopback", flag, value)
			}
		}
	})
}
