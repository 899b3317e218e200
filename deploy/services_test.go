package deploy_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"viaduct/deploy/manifest"
)

// pods are the labels of each pod, by its name.
func (d deployment) pods() map[string]labels.Set {
	if d.set == nil {
		return map[string]labels.Set{"": d.pod.Labels}
	}
	pods := make(map[string]labels.Set)
	for _, n := range d.replicas() {
		name := d.set.Name + "-" + strconv.Itoa(n)
		pods[name] = labels.Merge(d.pod.Labels, labels.Set{"statefulset.kubernetes.io/pod-name": name})
	}
	return pods
}

// replicas are the numbers of the StatefulSet's replicas.
func (d deployment) replicas() (numbers []int) {
	first := 0
	if d.set.Spec.Ordinals != nil {
		first = int(d.set.Spec.Ordinals.Start)
	}
	for i := range int(*d.set.Spec.Replicas) {
		numbers = append(numbers, first+i)
	}
	return numbers
}

// selected are the names of the pods that a selector selects.
func (d deployment) selected(selector labels.Selector) (names []string) {
	for name, set := range d.pods() {
		if selector.Matches(set) {
			names = append(names, name)
		}
	}
	return names
}

func (d deployment) wantAllSelected(t *testing.T, what string, selector *metav1.LabelSelector) {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	if got := d.selected(s); s.Empty() || len(got) != len(d.pods()) {
		t.Errorf("%s selects %q", what, got)
	}
}

// TestSelectors: whatever selects viaduct's pods does select them.
func TestSelectors(t *testing.T) {
	eachDeployment(t, func(t *testing.T, d deployment) {
		for _, service := range manifest.All[*corev1.Service](d.objects) {
			want := len(d.pods())
			if service.Labels["app.kubernetes.io/component"] == "sip" {
				want = 1
			}
			if got := d.selected(labels.SelectorFromSet(service.Spec.Selector)); len(got) != want || want == 1 && d.set != nil && len(d.pods()) > 1 && got[0] != service.Name {
				t.Errorf("Service %s selects %q", service.Name, got)
			}
		}
		if d.set != nil {
			d.wantAllSelected(t, "the StatefulSet", d.set.Spec.Selector)
		}
		budgets := manifest.All[*policyv1.PodDisruptionBudget](d.objects)
		if len(budgets) != 1 {
			t.Fatalf("%d budgets", len(budgets))
		}
		d.wantAllSelected(t, "the budget", budgets[0].Spec.Selector)
		if most := budgets[0].Spec.MaxUnavailable; most == nil || most.IntValue() != 1 {
			t.Errorf("%v pods may be unavailable", most)
		}
		for _, policy := range manifest.All[*networkingv1.NetworkPolicy](d.objects) {
			d.wantAllSelected(t, "the NetworkPolicy", &policy.Spec.PodSelector)
		}
	})
}

// port finds a container's port by its name or number.
func (d deployment) port(port intstr.IntOrString, protocol corev1.Protocol) bool {
	if protocol == "" {
		protocol = corev1.ProtocolTCP
	}
	return slices.ContainsFunc(d.viaduct.Ports, func(c corev1.ContainerPort) bool {
		own := c.Protocol
		if own == "" {
			own = corev1.ProtocolTCP
		}
		return own == protocol && (c.Name == port.StrVal || port.Type == intstr.Int && c.ContainerPort == port.IntVal)
	})
}

// TestPortNames: each port that a Service, a policy or a probe names is the pod's.
func TestPortNames(t *testing.T) {
	eachDeployment(t, func(t *testing.T, d deployment) {
		for _, service := range manifest.All[*corev1.Service](d.objects) {
			for _, port := range service.Spec.Ports {
				if !d.port(port.TargetPort, port.Protocol) {
					t.Errorf("Service %s: the pod has no port %v", service.Name, port)
				}
			}
		}
		for _, policy := range manifest.All[*networkingv1.NetworkPolicy](d.objects) {
			for _, rule := range policy.Spec.Ingress {
				for _, port := range rule.Ports {
					protocol := corev1.ProtocolTCP
					if port.Protocol != nil {
						protocol = *port.Protocol
					}
					if !d.port(*port.Port, protocol) {
						t.Errorf("the policy lets in what the pod has not: %v", port)
					}
				}
			}
		}
		for _, probe := range []*corev1.Probe{d.viaduct.StartupProbe, d.viaduct.LivenessProbe, d.viaduct.ReadinessProbe} {
			if probe != nil && !d.port(probe.HTTPGet.Port, corev1.ProtocolTCP) {
				t.Errorf("the pod has no port %v for a probe", probe.HTTPGet.Port)
			}
		}
	})
}

// TestFrontService: browsers come back to the same replica.
func TestFrontService(t *testing.T) {
	eachDeployment(t, func(t *testing.T, d deployment) {
		services := manifest.All[*corev1.Service](d.objects)
		front := slices.IndexFunc(services, func(s *corev1.Service) bool { return s.Name == "viaduct" })
		if front < 0 {
			t.Fatal("no Service viaduct")
		}
		spec := services[front].Spec
		if spec.SessionAffinity != corev1.ServiceAffinityClientIP || len(spec.Ports) != 1 || spec.Ports[0].TargetPort.StrVal != "websocket" {
			t.Errorf("%+v", spec)
		}
		if d.set != nil && !slices.ContainsFunc(services, func(s *corev1.Service) bool {
			return s.Name == d.set.Spec.ServiceName && s.Spec.ClusterIP == corev1.ClusterIPNone
		}) {
			t.Errorf("no Service %s gives the pods their names", d.set.Spec.ServiceName)
		}
	})
}

// TestReplicaAddresses: each replica says of itself an address that outlives its
// pod: that of its own Service, by UDP and TCP at the port that it listens at; or
// its node's.
func TestReplicaAddresses(t *testing.T) {
	eachDeployment(t, func(t *testing.T, d deployment) {
		own := make(map[string]*corev1.Service)
		for _, service := range manifest.All[*corev1.Service](d.objects) {
			if service.Labels["app.kubernetes.io/component"] == "sip" {
				own[service.Name] = service
			}
		}
		if d.set == nil || d.pod.Spec.HostNetwork {
			if len(own) > 0 {
				t.Errorf("there are Services of replicas: %v", own)
			}
			if d.set != nil {
				d.wantPinned(t)
			}
			return
		}
		if len(own) != len(d.replicas()) {
			t.Errorf("%d Services for %d replicas", len(own), len(d.replicas()))
		}
		for _, n := range d.replicas() {
			service := own[fmt.Sprintf("viaduct-%d", n)]
			if service == nil {
				t.Fatalf("replica %d has no Service", n)
			}
			args, _, err := manifest.Start(d.viaduct, d.objects, map[string]string{manifest.PodIndex: strconv.Itoa(n)})
			if err != nil {
				t.Fatal(err)
			}
			wantAt(t, args, service)
		}
	})
}

// wantPinned wants one pod on each of the nodes that are labelled for it, which
// says its node's address.
func (d deployment) wantPinned(t *testing.T) {
	t.Helper()
	args, _, err := manifest.Start(d.viaduct, d.objects, map[string]string{manifest.PodIndex: "0", "status.hostIP": "192.0.2.7"})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(args, "--advertise=192.0.2.7") {
		t.Errorf("it says %q", args)
	}
	if d.pod.Spec.NodeSelector["viaduct/edge"] != "true" || d.pod.Spec.DNSPolicy != corev1.DNSClusterFirstWithHostNet {
		t.Errorf("nodes %v, DNS %s", d.pod.Spec.NodeSelector, d.pod.Spec.DNSPolicy)
	}
	affinity := d.pod.Spec.Affinity
	if affinity == nil || affinity.PodAntiAffinity == nil || len(affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution) != 1 {
		t.Fatal("two pods may share a node")
	}
	d.wantAllSelected(t, "the anti-affinity", affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0].LabelSelector)
}

// wantAt wants a replica with these arguments to be reached at its Service.
func wantAt(t *testing.T, args []string, service *corev1.Service) {
	t.Helper()
	address := service.Spec.LoadBalancerIP
	if service.Spec.Type == corev1.ServiceTypeClusterIP {
		address = service.Spec.ClusterIP
	} else if service.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal {
		t.Errorf("%s: the SIP server's packets come from a node", service.Name)
	}
	if !slices.Contains(args, "--advertise="+address) {
		t.Errorf("the replica says %q, its Service is at %s", args, address)
	}
	if !service.Spec.PublishNotReadyAddresses {
		t.Errorf("%s: a replica that drains is not reached", service.Name)
	}
	at := make(map[string]string)
	for _, port := range service.Spec.Ports {
		at[port.TargetPort.StrVal] = fmt.Sprintf(":%d", port.Port)
	}
	for flag, names := range map[string][]string{"--sip-listen=": {"sip-udp", "sip-tcp"}, "--sip-tls-listen=": {"sip-tls"}} {
		for _, arg := range args {
			if listen, ok := strings.CutPrefix(arg, flag); ok {
				for _, name := range names {
					if at[name] != listen {
						t.Errorf("%s: %s is at %q, viaduct listens at %s", service.Name, name, at[name], listen)
					}
				}
			}
		}
	}
}

// TestServiceMonitor: Prometheus finds the pods by the one Service that has them
// all, those that are not ready too.
func TestServiceMonitor(t *testing.T) {
	seen := 0
	eachDeployment(t, func(t *testing.T, d deployment) {
		for _, monitor := range manifest.All[*monitoringv1.ServiceMonitor](d.objects) {
			seen++
			selector, err := metav1.LabelSelectorAsSelector(&monitor.Spec.Selector)
			if err != nil {
				t.Fatal(err)
			}
			var found []*corev1.Service
			for _, service := range manifest.All[*corev1.Service](d.objects) {
				if selector.Matches(labels.Set(service.Labels)) {
					found = append(found, service)
				}
			}
			if len(found) != 1 || len(monitor.Spec.Endpoints) != 1 {
				t.Fatalf("%d Services, %d endpoints", len(found), len(monitor.Spec.Endpoints))
			}
			endpoint, ports := monitor.Spec.Endpoints[0], found[0].Spec.Ports
			if endpoint.Path != "/metrics" || len(ports) != 1 || ports[0].Name != endpoint.Port || !found[0].Spec.PublishNotReadyAddresses {
				t.Errorf("%v of %v", endpoint, found[0].Spec)
			}
		}
	})
	if seen != 4 {
		t.Errorf("%d monitors", seen)
	}
}
