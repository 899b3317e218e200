package manifest

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Name is the name of the container that is viaduct.
const Name = "viaduct"

// All returns the objects that are of the type T.
func All[T runtime.Object](objects []runtime.Object) (found []T) {
	for _, object := range objects {
		if t, ok := object.(T); ok {
			found = append(found, t)
		}
	}
	return found
}

// Workload returns the one pod template among the objects, and the StatefulSet
// that it is of, nil for a Deployment's.
func Workload(objects []runtime.Object) (*corev1.PodTemplateSpec, *appsv1.StatefulSet, error) {
	sets, deployments := All[*appsv1.StatefulSet](objects), All[*appsv1.Deployment](objects)
	switch {
	case len(sets) == 1 && len(deployments) == 0:
		return &sets[0].Spec.Template, sets[0], nil
	case len(sets) == 0 && len(deployments) == 1:
		return &deployments[0].Spec.Template, nil, nil
	}
	return nil, nil, fmt.Errorf("%d StatefulSets and %d Deployments, want one", len(sets), len(deployments))
}

// Viaduct returns the container of a pod that is viaduct, which may be a sidecar.
func Viaduct(pod *corev1.PodSpec) (*corev1.Container, error) {
	for _, containers := range [][]corev1.Container{pod.InitContainers, pod.Containers} {
		for i := range containers {
			if containers[i].Name == Name {
				return &containers[i], nil
			}
		}
	}
	return nil, fmt.Errorf("no container %s", Name)
}
