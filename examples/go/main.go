// A small app beside the sidecar: it logs users in, sends them messages and makes mini program codes.
//
// It has no AppSecret and no access_token. The sidecar puts them into its calls.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

var wechat = setting("WECHAT_API_BASE_URL", "http://127.0.0.1:7080")

var client = http.Client{Timeout: 40 * time.Second}

// A problem is what the app answers where it cannot do what it was asked.
type problem struct {
	Message    string `json:"error"`
	Errcode    int64  `json:"errcode,omitempty"`
	status     int
	retryAfter string
}

func (p problem) Error() string { return p.Message }

// A reply has the type and the bytes of an answer, of the app's or of WeChat's.
type reply struct {
	contentType string
	content     []byte
}

// POST /login {"code": "…"}: the code is what wx.login gave to the mini program.
func login(given map[string]string) (reply, error) {
	if given["code"] == "" {
		return missing("code")
	}
	query := url.Values{"js_code": {given["code"]}, "grant_type": {"authorization_code"}}
	answer, err := callWechat("/sns/jscode2session?"+query.Encode(), nil)
	if err != nil {
		return reply{}, err
	}
	// The session_key beside it is for this server alone: do not send it to the mini program.
	var session struct {
		OpenID string `json:"openid"`
	}
	if err := json.Unmarshal(answer.content, &session); err != nil {
		return reply{}, err
	}
	return asJSON(map[string]string{"openid": session.OpenID})
}

// POST /notify {"openid": "…", "text": "…"}: a customer service message.
func notify(given map[string]string) (reply, error) {
	for _, name := range []string{"openid", "text"} {
		if given[name] == "" {
			return missing(name)
		}
	}
	message := map[string]any{
		"touser":  given["openid"],
		"msgtype": "text",
		"text":    map[string]string{"content": given["text"]},
	}
	if _, err := callWechat("/cgi-bin/message/custom/send", message); err != nil {
		return reply{}, err
	}
	return asJSON(map[string]bool{"sent": true})
}

// GET /qr?scene=…: a mini program code, as a picture.
func qr(given map[string]string) (reply, error) {
	if given["scene"] == "" {
		return missing("scene")
	}
	return callWechat("/wxa/getwxacodeunlimit", map[string]string{"scene": given["scene"]})
}

// callWechat sends a GET, or a POST with this body as JSON.
func callWechat(target string, body any) (reply, error) {
	path, _, _ := strings.Cut(target, "?")
	response, err := send(wechat+target, body)
	var content []byte
	if err == nil {
		defer response.Body.Close()
		content, err = io.ReadAll(response.Body)
	}
	if err != nil {
		// The text of a *url.Error has the code of a login in it.
		if failed := new(url.Error); errors.As(err, &failed) {
			err = failed.Err
		}
		log.Printf("%s: %v", path, err)
		return reply{}, problem{Message: "no reply from the sidecar", status: http.StatusBadGateway}
	}
	// An errcode in the body says that a call failed, whatever its status and its type are.
	var answer struct {
		Errcode json.Number `json:"errcode"`
		Errmsg  string      `json:"errmsg"`
	}
	if bytes.HasPrefix(content, []byte("{")) {
		if err := json.Unmarshal(content, &answer); err != nil {
			return reply{}, err
		}
	}
	errcode, _ := answer.Errcode.Int64()
	if errcode == 0 && response.StatusCode == http.StatusOK {
		return reply{response.Header.Get("Content-Type"), content}, nil
	}
	log.Printf("%s: HTTP %d, errcode %d: %s", path, response.StatusCode, errcode, answer.Errmsg)
	return reply{}, problemOf(errcode, response.Header.Get("Retry-After"))
}

func send(url string, body any) (*http.Response, error) {
	if body == nil {
		return client.Get(url)
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		return nil, err
	}
	return client.Post(url, "application/json", &text)
}

func problemOf(errcode int64, retryAfter string) problem {
	switch {
	case errcode == 40029 || errcode == 40163:
		// The code of the login is wrong, or was used before.
		return problem{"log in again", errcode, http.StatusUnauthorized, ""}
	case retryAfter != "":
		// The sidecar has sent nothing to WeChat. It says when it is worth another try.
		return problem{"try again later", errcode, http.StatusServiceUnavailable, retryAfter}
	default:
		// WeChat refused, or it is unknown what became of the call. So it is not sent again.
		return problem{"the call failed", errcode, http.StatusBadGateway, ""}
	}
}

func missing(name string) (reply, error) {
	return reply{}, problem{Message: name + " is missing", status: http.StatusBadRequest}
}

func asJSON(value any) (reply, error) {
	content, err := json.Marshal(value)
	return reply{"application/json", content}, err
}

// serve answers the requests of a path by what `ask` says.
func serve(method, path string, ask func(map[string]string) (reply, error)) {
	http.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		var answer reply
		given, err := fields(r)
		switch {
		case r.Method != method:
			err = problem{Message: "not found", status: http.StatusNotFound}
		case err == nil:
			answer, err = ask(given)
		}
		status := http.StatusOK
		if err != nil {
			told, ok := err.(problem)
			if !ok {
				log.Print(err)
				told = problem{Message: "the app failed", status: http.StatusInternalServerError}
			}
			if told.retryAfter != "" {
				w.Header().Set("Retry-After", told.retryAfter)
			}
			status = told.status
			answer, _ = asJSON(told)
		}
		w.Header().Set("Content-Type", answer.contentType)
		w.WriteHeader(status)
		w.Write(answer.content)
	})
}

// fields has those of the body, or of the query.
func fields(r *http.Request) (map[string]string, error) {
	given := map[string]string{}
	if r.Method == http.MethodGet {
		for name := range r.URL.Query() {
			given[name] = r.URL.Query().Get(name)
		}
	} else if err := json.NewDecoder(r.Body).Decode(&given); err != nil {
		return nil, problem{Message: "the body is no JSON", status: http.StatusBadRequest}
	}
	return given, nil
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func main() {
	serve("POST", "/login", login)
	serve("POST", "/notify", notify)
	serve("GET", "/qr", qr)
	listener, err := net.Listen("tcp", net.JoinHostPort(setting("HOST", "127.0.0.1"), setting("PORT", "8080")))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening on http://%s\n", listener.Addr())
	log.Fatal(http.Serve(listener, nil))
}
