// net/http, which keeps its connections.
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

const base = "https://api.weixin.qq.com/cgi-bin"

func call(method, path, body string) error {
	request, err := http.NewRequest(method, base+path+"?access_token=any-text", strings.NewReader(body))
	if err != nil {
		return err
	}
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	var said struct{ Errcode int }
	if err := json.NewDecoder(reply.Body).Decode(&said); err != nil {
		return err
	}
	if said.Errcode != 0 {
		return fmt.Errorf("errcode %d", said.Errcode)
	}
	return nil
}

func main() {
	for well := 0; ; time.Sleep(50 * time.Millisecond) {
		err := call("GET", "/user/get", "")
		if err == nil {
			err = call("POST", "/message/custom/send", `{"touser":"oFollower","msgtype":"text","text":{"content":"你好"}}`)
		}
		if err != nil {
			fmt.Println("fail", err)
			time.Sleep(200 * time.Millisecond)
			continue
		}
		well++
		if well%3 == 1 {
			fmt.Println("ok", well)
		}
	}
}
