# LWP, with a connection for each call.
use strict;
use warnings;
use LWP::UserAgent;

$| = 1;
my $agent = LWP::UserAgent->new;
my $well = 0;
while (1) {
    my $reply = $agent->get("https://api.weixin.qq.com/cgi-bin/user/get?access_token=any-text");
    if ($reply->content =~ /"total"/) {
        print "ok $well\n" if $well++ % 3 == 0;
    } else {
        print "fail ", $reply->status_line, " ", $reply->content, "\n";
        select undef, undef, undef, 0.2;
    }
    select undef, undef, undef, 0.05;
}
