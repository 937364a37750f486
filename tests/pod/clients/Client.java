import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/** HttpClient, which keeps its connections, and tries HTTP/2 first. */
public class Client {
    static final String BASE = "https://api.weixin.qq.com/cgi-bin";
    static final String MESSAGE = "{\"touser\":\"oFollower\",\"msgtype\":\"text\",\"text\":{\"content\":\"hello\"}}";

    static void call(HttpClient client, HttpRequest.Builder request) throws Exception {
        String body = client.send(request.build(), HttpResponse.BodyHandlers.ofString()).body();
        if (!body.contains("\"total\"") && !body.contains("\"errcode\":0")) {
            throw new Exception(body);
        }
    }

    static HttpRequest.Builder to(String path) {
        return HttpRequest.newBuilder(URI.create(BASE + path + "?access_token=any-text"));
    }

    public static void main(String[] args) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (int well = 0;; Thread.sleep(50)) {
            try {
                call(client, to("/user/get"));
                call(client, to("/message/custom/send").POST(HttpRequest.BodyPublishers.ofString(MESSAGE)));
                if (++well % 3 == 1) {
                    System.out.println("ok " + well);
                }
            } catch (Exception problem) {
                System.out.println("fail " + problem);
                Thread.sleep(200);
            }
        }
    }
}
