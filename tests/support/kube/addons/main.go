// What a cluster's network needs beside Kubernetes itself, in one program: `addons coredns ARGUMENTS`, the names of
// Services; `addons network-policies KUBECONFIG NODE`, which holds every new connection between pods against the
// network policies; and `addons pause`, the process that holds a pod's namespaces.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: addons coredns|network-policies|pause ARGUMENTS")
		os.Exit(2)
	}
	part := os.Args[1]
	os.Args = append([]string{part}, os.Args[2:]...)
	switch part {
	case "coredns":
		dnsserver.Directives = []string{"errors", "kubernetes"}
		coremain.Run()
	case "pause":
		end := make(chan os.Signal, 1)
		signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
		<-end
	case "network-policies":
		if err := enforce(os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		fmt.Fprintf(os.Stderr, "addons: no part is called %q\n", part)
		os.Exit(2)
	}
}
