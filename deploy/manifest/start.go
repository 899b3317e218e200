package manifest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// PodIndex is the field of a StatefulSet's pod that has the number of its replica.
const PodIndex = "metadata.labels['apps.kubernetes.io/pod-index']"

// Start returns the arguments and the environment, as NAME=value, with which a
// node starts a container. The ConfigMaps that it names are among the objects;
// fields are those of the pod that the downward API knows, such as PodIndex and
// status.hostIP. An argument with a variable that there is not is an error.
func Start(c *corev1.Container, objects []runtime.Object, fields map[string]string) (args, env []string, err error) {
	variables := make(map[string]string)
	for _, from := range c.EnvFrom {
		if err := addConfigMap(variables, from, objects); err != nil {
			return nil, nil, err
		}
	}
	for _, variable := range c.Env {
		value := variable.Value
		if from := variable.ValueFrom; from != nil {
			known := from.FieldRef != nil
			if known {
				value, known = fields[from.FieldRef.FieldPath]
			}
			if !known {
				return nil, nil, fmt.Errorf("%s: %v is not known", variable.Name, from)
			}
		}
		variables[variable.Name] = value
	}
	for _, arg := range c.Args {
		if arg, err = expand(arg, variables); err != nil {
			return nil, nil, err
		}
		args = append(args, arg)
	}
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		env = append(env, name+"="+variables[name])
	}
	return args, env, nil
}

func addConfigMap(variables map[string]string, from corev1.EnvFromSource, objects []runtime.Object) error {
	if from.ConfigMapRef == nil {
		return fmt.Errorf("variables from %v are not known", from)
	}
	for _, config := range All[*corev1.ConfigMap](objects) {
		if config.Name == from.ConfigMapRef.Name {
			for name, value := range config.Data {
				variables[from.Prefix+name] = value
			}
			return nil
		}
	}
	return fmt.Errorf("no ConfigMap %s", from.ConfigMapRef.Name)
}

// reference finds what a node replaces in an argument: $(NAME), and $$ for a dollar.
var reference = regexp.MustCompile(`\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)`)

func expand(arg string, variables map[string]string) (expanded string, err error) {
	expanded = reference.ReplaceAllStringFunc(arg, func(found string) string {
		if found == "$$" {
			return "$"
		}
		value, known := variables[found[2:len(found)-1]]
		if !known {
			err = fmt.Errorf("%s: no variable %s", arg, found)
		}
		return value
	})
	return expanded, err
}
