package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"viaduct/deploy/manifest"
)

// A Node is a Kubernetes node with a pod's network namespace at a time: it is the
// way of all packets of a pod, and gives the pod its Services' addresses, as
// kube-proxy does.
//
//	browser ── node ── pod           the front Service: the node's address, DNAT
//	             │
//	            PBX                  the replica's Service: DNAT; what the pod
//	                                 sends has the node's address
type Node struct {
	Host
	towardsPBX netip.Addr // the node's address that the PBX sees
}

// startNode starts a node with a way to the PBX's host, which has its Services'
// addresses routed to the node.
func startNode(t *testing.T, pbx Host, services ...string) *Node {
	t.Helper()
	node := &Node{Host: newNamespace(t)}
	node.run(t, "sysctl", "--quiet", "--write", "net.ipv4.ip_forward=1")
	node.run(t, "nft", "add table ip services; "+
		"add chain ip services in { type nat hook prerouting priority dstnat; }; "+
		"add chain ip services out { type nat hook postrouting priority srcnat; }")
	node.towardsPBX, _ = node.join(t, pbx)
	node.run(t, "ip", "route", "add", pbx.IP.String(), "dev", node.linkTo(t, pbx))
	for _, service := range services {
		pbx.run(t, "ip", "route", "add", service, "via", node.towardsPBX.String())
	}
	return node
}

// join makes a link between two namespaces.
func (h Host) join(t *testing.T, to Host) (near, far netip.Addr) {
	t.Helper()
	near, far = testSubnet(uint32(syscall.Getpid())<<4 + namespaces.Add(1))
	root(t, "ip", "link", "add", h.linkTo(t, to), "netns", h.Namespace, "type", "veth", "peer", "name", to.linkTo(t, h), "netns", to.Namespace)
	for host, own := range map[Host]netip.Addr{h: near, to: far} {
		other := to
		if host == to {
			other = h
		}
		host.run(t, "ip", "address", "add", own.String()+"/30", "dev", host.linkTo(t, other))
		host.run(t, "ip", "link", "set", host.linkTo(t, other), "up")
	}
	return near, far
}

// linkTo is the name of the link from one namespace to another.
func (h Host) linkTo(t *testing.T, to Host) string {
	t.Helper()
	number := func(namespace string) string { return namespace[strings.LastIndex(namespace, "-")+1:] }
	return "to" + number(to.Namespace) + "from" + number(h.Namespace)
}

// startPod makes the namespace of a new pod, with an address of its own, and
// leads its Services' addresses to it.
func (n *Node) startPod(t *testing.T, container *corev1.Container, services ...*corev1.Service) Host {
	t.Helper()
	pod := newNamespace(t)
	gateway, address := n.join(t, pod)
	pod.run(t, "ip", "route", "add", "default", "via", gateway.String())
	rules := []string{"flush chain ip services in", "flush chain ip services out",
		fmt.Sprintf("add rule ip services out ip saddr %s oifname != %q masquerade", address, n.linkTo(t, pod))}
	for _, service := range services {
		rules = append(rules, n.service(t, service, container, address)...)
	}
	n.run(t, "nft", strings.Join(rules, "; "))
	n.forget(t)
	return pod
}

// service are the rules of a Service that leads to the pod at that address.
func (n *Node) service(t *testing.T, service *corev1.Service, container *corev1.Container, pod netip.Addr) (rules []string) {
	t.Helper()
	at := service.Spec.LoadBalancerIP
	if at == "" {
		at = n.IP.String()
	}
	for _, port := range service.Spec.Ports {
		protocol := "tcp"
		if port.Protocol == corev1.ProtocolUDP {
			protocol = "udp"
		}
		target := containerPort(t, container, port.TargetPort)
		rules = append(rules, fmt.Sprintf("add rule ip services in ip daddr %s %s dport %d dnat to %s:%d", at, protocol, port.Port, pod, target))
	}
	if service.Spec.LoadBalancerIP != "" && service.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal {
		rules = append(rules, fmt.Sprintf("add rule ip services out ct original ip daddr %s masquerade", at))
	}
	return rules
}

// forget ends what is known of datagrams, as kube-proxy does when a Service's pod
// is another.
func (n *Node) forget(t *testing.T) {
	t.Helper()
	err := n.command("conntrack", "--delete", "--proto", "udp").Run()
	if status := (*exec.ExitError)(nil); err != nil && !errors.As(err, &status) {
		t.Fatalf("conntrack: %v", err) // its status says only whether there was anything
	}
}

// serviceNamed finds a Service of the manifest.
func serviceNamed(t *testing.T, objects []runtime.Object, name string) *corev1.Service {
	t.Helper()
	for _, service := range manifest.All[*corev1.Service](objects) {
		if service.Name == name {
			return service
		}
	}
	t.Fatalf("no Service %s", name)
	return nil
}

// TestEdgeReplicaRestarts: a replica of the edge overlay dies in a call, and
// another pod with another address takes its place. The SIP server's BYE goes to
// the address of the replica's Service and arrives.
func TestEdgeReplicaRestarts(t *testing.T) {
	t.Parallel()
	host := newNamespace(t)
	pbx := startKamailio(t, host)
	objects := renderOverlay(t, "edge", "VIADUCT_UPSTREAM="+pbx.Upstream("udp"),
		"VIADUCT_ALLOW_ORIGIN="+browser.Origin(), "VIADUCT_LOG_FORMAT=json")
	template, _, err := manifest.Workload(objects)
	if err != nil {
		t.Fatal(err)
	}
	container, err := manifest.Viaduct(&template.Spec)
	if err != nil {
		t.Fatal(err)
	}
	front, own := serviceNamed(t, objects, "viaduct"), serviceNamed(t, objects, "viaduct-1")
	fields := map[string]string{manifest.PodIndex: "1"}
	node := startNode(t, host, own.Spec.LoadBalancerIP)

	first, _ := startContainer(t, node.startPod(t, container, front, own), objects, fields, nil)
	first.WaitLog(t, "upstream answered")
	lab := &Lab{Stack: JsSIP, Leg: Leg{"udp", "ws"}, Host: host, PBX: pbx, Via: first, t: t}
	first.SIP = netip.MustParseAddrPort(fmt.Sprintf("%s:%d", own.Spec.LoadBalancerIP, own.Spec.Ports[0].Port))
	t.Cleanup(lab.finish)
	t.Cleanup(func() { lab.behind = append(lab.behind, node.seenBy(pbx)...) })
	phone := lab.PhoneIn(lab.Page(), "alice", PhoneOptions{WebSocket: fmt.Sprintf("ws://%s:%d/ws", node.IP, front.Spec.Ports[0].Port)})
	phone.Register(t)
	callee := lab.Callee("recv-invite", "send-200", "recv-ack", "wait", "send-bye")
	call := phone.Call(t, callee.URI())
	call.Wait(t, "confirmed")
	callee.WaitStep(t, "recv-ack")

	mark := phone.Mark()
	first.Kill(t)
	phone.WaitAfter(t, mark, "disconnected")
	second, _ := startContainer(t, node.startPod(t, container, front, own), objects, fields, nil)
	second.WaitLog(t, "upstream answered")
	phone.WaitAfter(t, mark, "registered")

	callee.Continue(t, callIDTo(t, phone.Page, callee))
	call.Wait(t, "ended")
	callee.Wait(t)
	bye := pbx.WaitSent(t, "BYE", func(m Message) bool { return m.Request("BYE") })
	if bye.To != first.SIP {
		t.Errorf("the BYE went to %s, want the Service's address %s", bye.To, first.SIP)
	}
}

// seenBy are the node's addresses that the PBX got messages from: those of
// viaduct, which the node has translated.
func (n *Node) seenBy(pbx *Kamailio) (seen []netip.AddrPort) {
	for _, m := range pbx.Messages.All() {
		if peer := m.peer(); peer.Addr() == n.towardsPBX {
			seen = append(seen, peer)
		}
	}
	return seen
}
