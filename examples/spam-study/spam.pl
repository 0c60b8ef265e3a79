#!/usr/bin/perl
# SpamAssassin as an analyzer: reads one JSON object a line (head and body of a mail, base64), answers each with its
# score, and an empty line. Rules are those of the Debian package; nothing is asked of the network, nothing is learned,
# nothing is written.
use strict;
use warnings;
use JSON::PP;
use Mail::SpamAssassin;
use MIME::Base64;

$| = 1;    # flush: an answer that stays in a buffer is no answer
my $json = JSON::PP->new->utf8->canonical;
my $judge = Mail::SpamAssassin->new({
    rules_filename      => '/usr/share/spamassassin',
    site_rules_filename => '/etc/spamassassin',
    userprefs_filename  => '/dev/null',
    userstate_dir       => '/nonexistent',
    dont_copy_prefs     => 1,
    local_tests_only    => 1,
    require_rules       => 1,
    post_config_text    => "use_bayes 0\nuse_auto_welcomelist 0\nuse_razor2 0\nuse_pyzor 0\n",
});
$judge->compile_now(0, 1);

while (my $line = <STDIN>) {
    my $seen = $json->decode($line);
    if (defined $seen->{body} || defined $seen->{head}) {
        my $text = decode_base64($seen->{head} // '') . "\n" . decode_base64($seen->{body} // '');
        my $mail = $judge->parse($text, 1);
        my $status = $judge->check($mail);
        print $json->encode({
            client => $seen->{orig_h},
            score  => 0 + $status->get_score,
            rules  => scalar(split /,/, $status->get_names_of_tests_hit),
            spam   => $status->is_spam ? JSON::PP::true : JSON::PP::false,
        }), "\n";
        $status->finish;
        $mail->finish;
    }
    print "\n";
}
