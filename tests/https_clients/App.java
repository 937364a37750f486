import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Random;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.hc.client5.http.classic.methods.HttpUriRequestBase;
import org.apache.hc.client5.http.impl.classic.CloseableHttpClient;
import org.apache.hc.client5.http.impl.classic.HttpClients;
import org.apache.hc.core5.http.ContentType;
import org.apache.hc.core5.http.io.entity.ByteArrayEntity;
import org.apache.hc.core5.http.io.entity.EntityUtils;

/**
 * An app on one of Java's HTTP clients: App httpclient|urlconnection|apache ROUNDS, or FILE instead of ROUNDS: then it
 * makes rounds until there is this file, and one in which a call got no reply begins again.
 */
public class App {
    static final String BASE = "https://api.weixin.qq.com";
    static final String APPID = "wx0123456789abcdef";
    static final String SECRET = "no-secret-here";

    interface Sender {
        /** The body of the reply. A call without a body is a GET. */
        byte[] send(String url, byte[] body, String type) throws Exception;
    }

    static Sender sender(String name) {
        switch (name) {
            case "httpclient":
                return httpClient(HttpClient.newHttpClient());
            case "urlconnection":
                return App::urlConnection;
            case "apache":
                return apache(HttpClients.createSystem());
            default:
                throw new IllegalArgumentException(name);
        }
    }

    static Sender httpClient(HttpClient client) {
        return (url, body, type) -> {
            HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(url));
            if (body != null) {
                request.header("Content-Type", type).POST(HttpRequest.BodyPublishers.ofByteArray(body));
            }
            HttpResponse<byte[]> reply = client.send(request.build(), HttpResponse.BodyHandlers.ofByteArray());
            check(reply.statusCode() == 200, "status " + reply.statusCode());
            return reply.body();
        };
    }

    static byte[] urlConnection(String url, byte[] body, String type) throws IOException {
        HttpURLConnection connection = (HttpURLConnection) URI.create(url).toURL().openConnection();
        if (body != null) {
            connection.setRequestProperty("Content-Type", type);
            connection.setDoOutput(true);
            connection.getOutputStream().write(body);
        }
        check(connection.getResponseCode() == 200, "status " + connection.getResponseCode());
        return connection.getInputStream().readAllBytes();
    }

    static Sender apache(CloseableHttpClient client) {
        return (url, body, type) -> {
            HttpUriRequestBase request = new HttpUriRequestBase(body == null ? "GET" : "POST", URI.create(url));
            if (body != null) {
                request.setEntity(new ByteArrayEntity(body, ContentType.parse(type)));
            }
            return client.execute(request, reply -> {
                check(reply.getCode() == 200, "status " + reply.getCode());
                return EntityUtils.toByteArray(reply.getEntity());
            });
        };
    }

    static void check(boolean so, String what) {
        if (!so) {
            throw new AssertionError(what);
        }
    }

    final Sender sender;

    App(Sender sender) {
        this.sender = sender;
    }

    byte[] ask(String target, byte[] body, String type) throws Exception {
        byte[] reply = sender.send(BASE + target, body, type);
        String text = new String(reply, StandardCharsets.ISO_8859_1);
        boolean failed = text.startsWith("{") && text.contains("errcode") && !text.contains("\"errcode\":0");
        check(!failed, text);
        return reply;
    }

    byte[] ask(String target) throws Exception {
        return ask(target, null, null);
    }

    byte[] post(String target, String json) throws Exception {
        return ask(target, json.getBytes(StandardCharsets.UTF_8), "application/json");
    }

    static String field(String name, byte[] reply) {
        String text = new String(reply, StandardCharsets.UTF_8);
        Matcher found = Pattern.compile("\"" + name + "\":\"([^\"]+)\"").matcher(text);
        check(found.find(), text);
        return found.group(1);
    }

    void round(String token, int number) throws Exception {
        String followers = new String(ask("/cgi-bin/user/get?access_token=" + token), StandardCharsets.UTF_8);
        check(followers.contains("\"count\":2"), followers);
        String message = "{\"touser\":\"o1\",\"text\":\"第 " + number + " 天\"}";
        post("/cgi-bin/message/custom/send?access_token=" + token, message);

        byte[] picture = new byte[1_000_000];
        new Random().nextBytes(picture);
        picture[0] = (byte) 0xff;
        ByteArrayOutputStream form = new ByteArrayOutputStream();
        String head = "--border\r\nContent-Disposition: form-data; name=\"media\"; filename=\"photo.jpg\"\r\n\r\n";
        form.write(head.getBytes(StandardCharsets.UTF_8));
        form.write(picture);
        form.write("\r\n--border--\r\n".getBytes(StandardCharsets.UTF_8));
        String upload = "/cgi-bin/media/upload?type=image&access_token=" + token;
        String media = field("media_id", ask(upload, form.toByteArray(), "multipart/form-data; boundary=border"));
        byte[] again = ask("/cgi-bin/media/get?access_token=" + token + "&media_id=" + media);
        check(Arrays.equals(again, picture), "another picture");

        byte[] code = post("/wxa/getwxacodeunlimit?access_token=" + token, "{\"scene\":\"a=1\"}");
        check(code[0] == (byte) 0xff && code[1] == (byte) 0xd8, "no picture");
        field("ticket", ask("/cgi-bin/ticket/getticket?type=jsapi&access_token=" + token));
        String login = "appid=" + APPID + "&secret=" + SECRET + "&grant_type=authorization_code&js_code=java-" + number;
        field("openid", ask("/sns/jscode2session?" + login));
    }

    /** Makes the rounds, no two of one number, and returns how many. */
    int goOn(String end, String token) throws Exception {
        boolean untilFile = !end.matches("\\d+");
        int done = 0;
        int again = 0;
        while (untilFile ? !Files.exists(Path.of(end)) : done < Integer.parseInt(end)) {
            try {
                round(token, done + again);
                done++;
                System.out.println("round " + done);
            } catch (IOException error) {
                if (!untilFile || again == 100) {
                    throw error;
                }
                again++;
                System.out.println("again: " + error);
                Thread.sleep(100);
            }
        }
        return done;
    }

    public static void main(String[] arguments) throws Exception {
        App app = new App(sender(arguments[0]));
        String credential = "grant_type=client_credential&appid=" + APPID + "&secret=" + SECRET;
        String token = field("access_token", app.ask("/cgi-bin/token?" + credential));
        int rounds = app.goOn(arguments[1], token);
        System.out.println(rounds + " rounds without an error; its token was " + token);
    }
}
