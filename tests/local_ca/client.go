// Calls each host:port of the command line at 127.0.0.1, and says whether its certificate is trusted.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
)

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:"+port)
}

func main() {
	client := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	for _, target := range os.Args[1:] {
		reply, err := client.Get("https://" + target + "/")
		if err != nil {
			fmt.Println("refused:", err)
			continue
		}
		reply.Body.Close()
		fmt.Println("accepted")
	}
}
