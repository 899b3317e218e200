package deploy_test

import (
	"os"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"viaduct/deploy/manifest"
)

// TestIngress: the Ingress has no field that Kubernetes does not know, and leads
// to a Service and port that the base has.
func TestIngress(t *testing.T) {
	text, err := os.ReadFile("proxies/ingress-nginx.yaml")
	if err != nil {
		t.Fatal(err)
	}
	objects, err := manifest.Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	services, err := manifest.Kustomize("kustomize/base")
	if err != nil {
		t.Fatal(err)
	}
	for _, ingress := range manifest.All[*networkingv1.Ingress](objects) {
		to := ingress.Spec.Rules[0].HTTP.Paths[0].Backend.Service
		found := false
		for _, service := range manifest.All[*corev1.Service](services) {
			for _, port := range service.Spec.Ports {
				found = found || service.Name == to.Name && port.Name == to.Port.Name
			}
		}
		if !found {
			t.Errorf("no Service %s with a port %s", to.Name, to.Port.Name)
		}
	}
}
