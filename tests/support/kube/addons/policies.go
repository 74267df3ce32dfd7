package main

import (
	"context"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	nfqueue "github.com/florianl/go-nfqueue/v2"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/kube-network-policies/pkg/api"
	"sigs.k8s.io/kube-network-policies/pkg/network"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"
	"sigs.k8s.io/kube-network-policies/pkg/podinfo"
)

// queue is where the firewall sends the first packet of each connection to: `iptables ... -j NFQUEUE --queue-num 100`.
const queue = 100

// enforce judges packets until it is told to stop. The judge is that of sigs.k8s.io/kube-network-policies; its own
// rules of the firewall need a part of nftables that not every kernel has, so the rule is the caller's.
func enforce(kubeconfig, node string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	watched := informers.NewSharedInformerFactory(client, 0)
	pods, namespaces := watched.Core().V1().Pods(), watched.Core().V1().Namespaces()
	policy := networkpolicy.NewStandardNetworkPolicy(node, namespaces, pods, watched.Networking().V1().NetworkPolicies())
	judge := networkpolicy.NewPolicyEngine(
		podinfo.NewInformerProvider(pods, namespaces, nil, nil), []api.PolicyEvaluator{policy})
	watched.Start(ctx.Done())
	watched.WaitForCacheSync(ctx.Done())

	packets, err := nfqueue.Open(&nfqueue.Config{
		NfQueue: queue, MaxPacketLen: 128, MaxQueueLen: 1024, Copymode: nfqueue.NfQnlCopyPacket,
		WriteTimeout: 100 * time.Millisecond,
	})
	if err != nil {
		return fmt.Errorf("network-policies: no queue of packets: %w", err)
	}
	defer packets.Close()
	judged := func(attribute nfqueue.Attribute) int {
		verdict := nfqueue.NfDrop
		packet, err := network.ParsePacket(*attribute.Payload)
		if err != nil {
			fmt.Println("dropped, not understood:", err)
		} else if allowed, err := judge.EvaluatePacket(ctx, &packet); err != nil || !allowed {
			fmt.Println("dropped:", packet.String(), err)
		} else {
			verdict = nfqueue.NfAccept
		}
		_ = packets.SetVerdict(*attribute.PacketID, verdict)
		return 0
	}
	failed := func(err error) int {
		fmt.Println("queue of packets:", err)
		return 0
	}
	if err := packets.RegisterWithErrorFunc(ctx, judged, failed); err != nil {
		return err
	}
	fmt.Println("network-policies: judging")
	<-ctx.Done()
	return nil
}
