# An app on Perl's LWP: app.pl ROUNDS, or FILE instead of ROUNDS: then it makes rounds until there is this file, and one
# in which a call got no reply begins again.

use strict;
use warnings;
use utf8;

use Encode qw(encode_utf8);
use LWP::UserAgent;

my $base   = "https://api.weixin.qq.com";
my $appid  = "wx0123456789abcdef";
my $secret = "no-secret-here";
my $client = LWP::UserAgent->new(keep_alive => 1, timeout => 30);
$| = 1;

# Whether this stands for a reply that did not come, or not whole.
sub is_lost {
    my ($reply) = @_;
    return 1 if $reply->header("Client-Warning") || $reply->header("X-Died");
    return length ${ $reply->content_ref } < ($reply->content_length // 0);
}

# The reply as bytes, unless it says that the call failed. A call without a body is a GET.
sub ask {
    my ($target, $body, $type) = @_;
    my @body  = defined $body ? ("Content-Type" => $type // "application/json", Content => $body) : ();
    my $reply = @body ? $client->post("$base$target", @body) : $client->get("$base$target");
    die { lost => $reply->status_line } if is_lost($reply);
    die $reply->status_line, "\n", $reply->content unless $reply->is_success;
    my $text = $reply->content;
    die $text if $text =~ /^\{/ && $text =~ /"errcode":(-?\d+)/ && $1 != 0;
    return $text;
}

# The text of a field in a reply that must have it.
sub field {
    my ($name, $reply) = @_;
    return $1 if $reply =~ /"$name":"([^"]+)"/;
    die "no $name: $reply";
}

sub round_of_calls {
    my ($token, $number) = @_;
    ask("/cgi-bin/user/get?access_token=$token") =~ /"count":2/ or die "no two followers";
    ask("/cgi-bin/message/custom/send?access_token=$token", encode_utf8(qq({"touser":"o1","text":"第 $number 天"})));

    my $picture = join "", "\xff\xd8", map { pack "N", int rand 2**32 } 1 .. 250_000;
    my $head    = qq(--border\r\nContent-Disposition: form-data; name="media"; filename="photo.jpg"\r\n\r\n);
    my $upload  = "/cgi-bin/media/upload?access_token=$token&type=image";
    my $form    = "$head$picture\r\n--border--\r\n";
    my $media   = field("media_id", ask($upload, $form, "multipart/form-data; boundary=border"));
    ask("/cgi-bin/media/get?access_token=$token&media_id=$media") eq $picture or die "another picture";

    ask("/wxa/getwxacodeunlimit?access_token=$token", '{"scene":"a=1"}') =~ /^\xff\xd8/ or die "no picture";
    field("ticket", ask("/cgi-bin/ticket/getticket?access_token=$token&type=jsapi"));
    my $login = "appid=$appid&secret=$secret&js_code=perl-$number&grant_type=authorization_code";
    field("openid", ask("/sns/jscode2session?$login"));
}

# Makes the rounds, no two of one number, and returns how many.
sub go_on {
    my ($end, $token) = @_;
    my $until_file = $end !~ /^\d+$/;
    my ($done, $again) = (0, 0);
    until ($until_file ? -e $end : $done == $end) {
        if (eval { round_of_calls($token, $done + $again); 1 }) {
            $done++;
            print "round $done\n";
            next;
        }
        my $why = ref $@ ? $@->{lost} : die $@;
        die "no reply: $why\n" if !$until_file || $again == 100;
        $again++;
        print "again: $why\n";
        select undef, undef, undef, 0.1;
    }
    return $done;
}

my $credential = "grant_type=client_credential&appid=$appid&secret=$secret";
my $token = field("access_token", ask("/cgi-bin/token?$credential"));
my $rounds = go_on(shift, $token);
print "$rounds rounds without an error; its token was $token\n";
