#!/usr/bin/perl
# Scores HTTP requests by how much their address looks like a trap. Reads one JSON object a line; answers each with its
# records, one a line, and an empty line. JSON::PP is part of Perl itself.
use strict;
use warnings;
use JSON::PP;

$| = 1;    # flush: an answer that stays in a buffer is no answer
my $json = JSON::PP->new->utf8->canonical;
my %seen;

while (my $line = <STDIN>) {
    my $tx = $json->decode($line);
    my $host = $tx->{host} // '';
    my $uri  = $tx->{uri}  // '';
    $seen{ $tx->{method} // 'NONE' }++;
    if ($host ne '') {
        my $score = 0;
        $score += 0.5 if $uri  =~ /login|verify|account|secure/i;
        $score += 0.3 if $host =~ /\d+[.-]\d+[.-]\d+/;
        $score += 0.2 if $host =~ tr/-// >= 2;
        print $json->encode({
            record => 'scored',
            client => $tx->{orig_h},
            site   => $host,
            score  => 0 + $score,
        }), "\n";
    }
    print "\n";
}

# The trace has ended: what was counted over all of it.
for my $method (sort keys %seen) {
    print $json->encode({ record => 'methods_seen', method => $method, count => $seen{$method} }), "\n";
}
