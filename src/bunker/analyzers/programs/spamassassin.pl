# Scores mails with Mail::SpamAssassin, local tests alone: no network, nothing written, one process for the whole run.
#
# In: a JSON object a line, columns of `mail` (docs/analyzers.md); `body` is the message in base64. Out: for each message
# its records and an empty line. At the end one record about the engine.
#
# Why the library and not spamd: spamd copies its whole configuration after each message, which costs a third of its
# time, and it wants a socket and a file for its number. The scores are the same.
use strict;
use warnings;
use Digest::SHA;
use JSON::PP;
use MIME::Base64 qw(decode_base64);
use Mail::SpamAssassin;

use constant MOST_BYTES => 512 * 1024;    # longer ones are scored by their beginning, as spamc's limit suggests

# What a page of a web mailer cannot have: its transport headers. Firing on every mail, these rules say nothing.
my %LOST_IN_PAGES = map { $_ => 1 } qw(
  MISSING_MID MISSING_HEADERS MISSING_DATE NO_RECEIVED NO_RELAYS NO_HEADERS_MESSAGE MISSING_MIME_HB_SEP
);

# Where rules stand: those of sa-update, if it ever ran, in place of the package's.
my ($updated) = grep { my @files = glob("$_/*.cf $_/*/*.cf"); @files } reverse sort glob("/var/lib/spamassassin/[0-9]*");
my $rules = $updated // '/usr/share/spamassassin';
my $site  = '/etc/spamassassin';

$| = 1;
my $json = JSON::PP->new->utf8->canonical;

# Whatever a plug-in prints must not stand among the answers.
open(my $answers, '>&', \*STDOUT) or exit 1;
open(STDOUT, '>', '/dev/null') or open(STDOUT, '>&', \*STDERR) or exit 1;
select((select($answers), $| = 1)[0]);

my $engine = Mail::SpamAssassin->new({
    rules_filename       => $rules,
    site_rules_filename  => $site,
    userprefs_filename   => '/nonexistent',
    home_dir_for_helpers => '/nonexistent',
    local_tests_only     => 1,
    dont_copy_prefs      => 1,
    post_config_text     => join("\n",
        'use_bayes 0', 'bayes_auto_learn 0', 'skip_rbl_checks 1', 'dns_available no', 'report_safe 0',
        'time_limit 0', ''),    # how long one mail may take is said by analysis.time_per_call
});
$engine->compile_now(0, 1);

my $scored = 0;
while (my $line = <STDIN>) {
    my $mail = $json->decode($line);
    if (defined $mail->{body} && length $mail->{body} && !$mail->{partial}) {
        answer($_) for score($mail);
        $scored++;
    }
    print {$answers} "\n";
}
answer({
    record  => 'spam_engine',
    version => 'SpamAssassin ' . Mail::SpamAssassin::Version(),
    rules   => digest_of_rules(),
    mails   => $scored,
});

sub answer { print {$answers} $json->encode($_[0]), "\n" }

sub score {
    my ($mail) = @_;
    my $text   = substr(decode_base64($mail->{body}), 0, MOST_BYTES);
    my $parsed = $engine->parse(\$text, 0);
    my $status = $engine->check($parsed);
    my ($score, $required) = ($status->get_score(), $status->get_required_score());
    my %hits = %{ $status->get_names_of_tests_hit_with_scores_hash() };
    if (($mail->{command} // '') eq 'PAGE') {
        $score -= delete($hits{$_}) // 0 for grep { $LOST_IN_PAGES{$_} } keys %hits;
    }
    $status->finish();
    $parsed->finish();
    my %about = (client => $mail->{orig_h}, server => $mail->{resp_h}, proto => $mail->{proto});
    my @rows  = {
        %about,
        record   => 'spam',
        ts       => $mail->{ts},
        sender   => $mail->{from_addr} // $mail->{mailfrom},
        size     => $mail->{size},
        score    => 0 + sprintf('%.3f', $score),
        required => 0 + $required,
        spam     => $score >= $required ? JSON::PP::true : JSON::PP::false,
        hits     => scalar keys %hits,
        partial  => ($mail->{gap} || length($text) < $mail->{size}) ? JSON::PP::true : JSON::PP::false,
    };
    push @rows, { %about, record => 'spam_rule', rule => $_, score => 0 + $hits{$_} } for sort keys %hits;
    return @rows;
}

# Which rules were applied: a digest over every file of them, by path.
sub digest_of_rules {
    my $sum = Digest::SHA->new(256);
    for my $folder (grep { -d } $rules, $site) {
        for my $path (sort glob("$folder/*.cf $folder/*/*.cf $folder/*.pre")) {
            $sum->add("$path\0");
            eval { $sum->addfile($path, 'b'); 1 } or $sum->add("unreadable\0");
        }
    }
    return $sum->hexdigest();
}
