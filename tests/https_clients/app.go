// An app on Go's net/http: app ROUNDS, or FILE instead of ROUNDS: then it makes rounds until there is this file, and one
// in which a call got no reply begins again.
package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"time"
)

const (
	base   = "https://api.weixin.qq.com"
	appid  = "wx0123456789abcdef"
	secret = "no-secret-here"
)

// lost is why a call got no reply: a panic that ends its round.
type lost struct{ error }

// send makes one call. One without a body is a GET.
func send(url string, body []byte, contentType string) ([]byte, error) {
	var reply *http.Response
	var err error
	if body == nil {
		reply, err = http.Get(url)
	} else {
		reply, err = http.Post(url, contentType, bytes.NewReader(body))
	}
	if err != nil {
		return nil, err
	}
	defer reply.Body.Close()
	if reply.StatusCode != 200 {
		log.Fatalf("status %d", reply.StatusCode)
	}
	return io.ReadAll(reply.Body)
}

// ask gives the reply, unless there is none, or it says that the call failed.
func ask(target string, body []byte, contentType string) []byte {
	reply, err := send(base+target, body, contentType)
	if err != nil {
		panic(lost{err})
	}
	if bytes.HasPrefix(reply, []byte("{")) {
		if code := parsed(reply)["errcode"]; code != nil && code != 0.0 {
			log.Fatalf("%s", reply)
		}
	}
	return reply
}

func get(target string) []byte {
	return ask(target, nil, "")
}

func post(target, body string) []byte {
	return ask(target, []byte(body), "application/json")
}

func parsed(reply []byte) map[string]any {
	var object map[string]any
	if err := json.Unmarshal(reply, &object); err != nil {
		log.Fatalf("%s: %v", reply, err)
	}
	return object
}

// field gives a text of a reply that must have it.
func field(name string, reply []byte) string {
	text, _ := parsed(reply)[name].(string)
	if text == "" {
		log.Fatalf("no %s: %s", name, reply)
	}
	return text
}

func round(token string, number int) {
	followers := get("/cgi-bin/user/get?access_token=" + token)
	if parsed(followers)["count"] != 2.0 {
		log.Fatalf("%s", followers)
	}
	message := fmt.Sprintf(`{"touser":"o1","text":"第 %d 天"}`, number)
	post("/cgi-bin/message/custom/send?access_token="+token, message)

	picture := make([]byte, 1_000_000)
	if _, err := rand.Read(picture); err != nil {
		log.Fatal(err)
	}
	copy(picture, []byte{0xff, 0xd8})
	head := "--border\r\nContent-Disposition: form-data; name=\"media\"; filename=\"photo.jpg\"\r\n\r\n"
	form := bytes.Join([][]byte{[]byte(head), picture, []byte("\r\n--border--\r\n")}, nil)
	upload := "/cgi-bin/media/upload?type=image&access_token=" + token
	media := field("media_id", ask(upload, form, "multipart/form-data; boundary=border"))
	if !bytes.Equal(get("/cgi-bin/media/get?access_token="+token+"&media_id="+media), picture) {
		log.Fatal("another picture")
	}

	code := post("/wxa/getwxacodeunlimit?access_token="+token, `{"scene":"a=1"}`)
	if !bytes.HasPrefix(code, []byte{0xff, 0xd8}) {
		log.Fatal("no picture")
	}
	field("ticket", get("/cgi-bin/ticket/getticket?type=jsapi&access_token="+token))
	login := fmt.Sprintf("appid=%s&secret=%s&grant_type=authorization_code&js_code=go-%d", appid, secret, number)
	field("openid", get("/sns/jscode2session?"+login))
}

// try makes a round, or says why a call of it got no reply.
func try(token string, number int) (err error) {
	defer func() {
		switch problem := recover().(type) {
		case nil:
		case lost:
			err = problem
		default:
			panic(problem)
		}
	}()
	round(token, number)
	return nil
}

// goOn makes the rounds, no two of one number, and returns how many.
func goOn(end, token string) (done int) {
	rounds, err := strconv.Atoi(end)
	untilFile := err != nil
	isOver := func() bool {
		_, err := os.Stat(end)
		return untilFile && err == nil || !untilFile && done == rounds
	}
	for again := 0; !isOver(); {
		if err := try(token, done+again); err == nil {
			done++
			fmt.Println("round", done)
		} else if untilFile && again < 100 {
			again++
			fmt.Println("again:", err)
			time.Sleep(100 * time.Millisecond)
		} else {
			log.Fatal(err)
		}
	}
	return done
}

func main() {
	credential := "grant_type=client_credential&appid=" + appid + "&secret=" + secret
	token := field("access_token", get("/cgi-bin/token?"+credential))
	rounds := goOn(os.Args[1], token)
	fmt.Printf("%d rounds without an error; its token was %s\n", rounds, token)
}
