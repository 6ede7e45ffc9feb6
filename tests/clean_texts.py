"""Questions and answers of our own in five languages, code among them, in which nothing is to be found.

Sentences are put together by chance from a few words, so that no two rows are nearly the same.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Message = dict[str, str]


@dataclass(frozen=True)
class _Language:
    """Words, and how they make a sentence and a question. Fields: {who}, {does}, {what}, {where} and {why}."""

    who: Sequence[str]
    does: Sequence[str]
    what: Sequence[str]
    where: Sequence[str]
    why: Sequence[str]
    sentences: Sequence[str]
    questions: Sequence[str]
    systems: Sequence[str]
    space: str = " "


def _words(text: str) -> list[str]:
    return text.split("|")


_ENGLISH = _Language(
    _words(
        "the keeper of the lamps|our neighbour|a young botanist|the council|my grandmother|the clockmaker|"
        "an old sailor|the night conductor|a visiting painter|the harbour office"
    ),
    _words("mends|counts|paints|carries|describes|measures|lends|records|sorts|weighs"),
    _words(
        "the copper kettle|old maps of the river|seven folded letters|the winter apples|a box of stamps|"
        "the blue curtains|every second lantern|the broken compass|a list of birds|the wooden bridge"
    ),
    _words(
        "before the tide turns|behind the mill|in the quiet garden|on market days|near the northern gate|"
        "under the arches|after the first snow|at half past six|along the canal|between two storms"
    ),
    _words(
        "because the winter was long|since nobody else had time|so that the children can see it|"
        "although it costs a little|while the rain lasts|as the rules have said since 1987|"
        "which saves 12% of the oil|and nobody minds"
    ),
    ("{who} {does} {what} {where}, {why}.", "{where}, {who} {does} {what}.", "{who} {does} {what}, {why}."),
    ("Why does it matter that {who} {does} {what} {where}?", "Please explain how {who} {does} {what} {where}."),
    ("You are a patient guide.", "Answer briefly and kindly.", "You know the town well."),
)
_UKRAINIAN = _Language(
    _words(
        "доглядач маяка|наша сусідка|молодий ботанік|міська рада|моя бабуся|годинникар|старий моряк|нічний провідник|"
        "художниця з Полтави|портова контора"
    ),
    _words("лагодить|рахує|малює|переносить|описує|вимірює|позичає|записує|сортує|зважує"),
    _words(
        "мідний чайник|старі карти річки|сім згорнутих листів|зимові яблука|коробку марок|блакитні завіси|"
        "кожен другий ліхтар|зламаний компас|перелік птахів|дерев'яний міст"
    ),
    _words(
        "перед припливом|за млином|у тихому саду|у базарні дні|біля північної брами|під арками|після першого снігу|"
        "о пів на сьому|уздовж каналу|між двома бурями"
    ),
    _words(
        "бо зима була довга|адже більше ніхто не має часу|щоб побачили діти|хоча це трохи коштує|доки триває дощ|"
        "як велять правила з 1987 року|що заощаджує 12 % олії|і ніхто не проти"
    ),
    ("{who} {does} {what} {where}, {why}.", "{where} {who} {does} {what}.", "{who} {does} {what}, {why}."),
    ("Чому важливо, що {who} {does} {what} {where}?", "Поясніть, будь ласка, як {who} {does} {what} {where}."),
    ("Ви терплячий провідник.", "Відповідайте стисло й люб'язно.", "Ви добре знаєте місто."),
)
_CHINESE = _Language(
    _words("守灯人|我们的邻居|年轻的植物学家|镇议会|我的祖母|钟表匠|老水手|夜班列车员|来访的画家|港务处"),
    _words("修理|清点|描绘|搬运|描述|测量|出借|登记|整理|称量"),
    _words("铜水壶|旧河道图|七封折好的信|冬天的苹果|一盒邮票|蓝色的窗帘|每隔一盏的灯笼|坏了的罗盘|鸟类名单|木桥"),
    _words(
        "在涨潮之前|在磨坊后面|在安静的花园里|在赶集的日子|在北门附近|在拱廊下面|在初雪之后|在六点半|沿着运河|在两场风暴之间"
    ),
    _words(
        "因为冬天很长|因为别人都没有时间|好让孩子们看见|虽然要花一点钱|趁雨还没有停|按照1987年以来的规定|这样能省12%的灯油|没有人介意"
    ),
    ("{who}{where}{does}{what}，{why}。", "{where}，{who}{does}{what}。", "{who}{does}{what}，{why}。"),
    ("为什么{who}{where}{does}{what}很重要？", "请说明{who}{where}怎样{does}{what}。"),
    ("你是一位耐心的向导。", "请简短而友好地回答。", "你很熟悉这座小镇。"),
    "",
)
_ARABIC = _Language(
    _words(
        "حارس المنارة|جارنا|عالم النبات الشاب|مجلس المدينة|جدي|صانع الساعات|بحار عجوز|مفتش القطار الليلي|رسام زائر|"
        "مكتب الميناء"
    ),
    _words("يصلح|يعد|يرسم|ينقل|يصف|يقيس|يعير|يسجل|يرتب|يزن"),
    _words(
        "إبريق النحاس|خرائط النهر القديمة|سبع رسائل مطوية|تفاح الشتاء|علبة طوابع|الستائر الزرقاء|نصف المصابيح|"
        "البوصلة المكسورة|قائمة الطيور|الجسر الخشبي"
    ),
    _words(
        "قبل المد|خلف الطاحونة|في الحديقة الهادئة|في أيام السوق|قرب البوابة الشمالية|تحت الأقواس|بعد أول ثلج|"
        "في السادسة والنصف|على طول القناة|بين عاصفتين"
    ),
    _words(
        "لأن الشتاء كان طويلا|إذ لا وقت عند غيره|حتى يراه الأطفال|وإن كان ذلك يكلف قليلا|ما دام المطر يهطل|"
        "كما تنص القواعد منذ عام 1987|مما يوفر 12٪ من الزيت|ولا أحد يمانع"
    ),
    ("{does} {who} {what} {where}، {why}.", "{where} {does} {who} {what}.", "{does} {who} {what}، {why}."),
    ("لماذا يهم أن {who} {does} {what} {where}؟", "اشرح من فضلك كيف {does} {who} {what} {where}."),
    ("أنت مرشد صبور.", "أجب بإيجاز ولطف.", "أنت تعرف المدينة جيدا."),
)
_SPANISH = _Language(
    _words(
        "el guardián del faro|nuestra vecina|un joven botánico|el ayuntamiento|mi abuela|el relojero|"
        "un viejo marinero|la revisora nocturna|una pintora de paso|la oficina del puerto"
    ),
    _words("repara|cuenta|pinta|lleva|describe|mide|presta|anota|ordena|pesa"),
    _words(
        "la tetera de cobre|los mapas antiguos del río|siete cartas dobladas|las manzanas de invierno|"
        "una caja de sellos|las cortinas azules|uno de cada dos faroles|la brújula rota|una lista de pájaros|"
        "el puente de madera"
    ),
    _words(
        "antes de la marea|detrás del molino|en el jardín tranquilo|los días de mercado|junto a la puerta norte|"
        "bajo los arcos|tras la primera nieve|a las seis y media|a lo largo del canal|entre dos tormentas"
    ),
    _words(
        "porque el invierno fue largo|ya que nadie más tenía tiempo|para que lo vean los niños|aunque cuesta un poco|"
        "mientras dura la lluvia|como dicen las normas desde 1987|lo que ahorra un 12 % de aceite|"
        "y a nadie le molesta"
    ),
    ("{who} {does} {what} {where}, {why}.", "{where}, {who} {does} {what}.", "{who} {does} {what}, {why}."),
    ("¿Por qué importa que {who} {does} {what} {where}?", "Explica, por favor, cómo {who} {does} {what} {where}."),
    ("Eres un guía paciente.", "Responde con brevedad y amabilidad.", "Conoces bien el pueblo."),
)
LANGUAGES = {
    "English": _ENGLISH,
    "Ukrainian": _UKRAINIAN,
    "Chinese": _CHINESE,
    "Arabic": _ARABIC,
    "Spanish": _SPANISH,
}


class CleanTexts:
    """Makes conversations in one language; the same ones for the same seed."""

    def __init__(self, language: str, seed: int) -> None:
        self.chance = random.Random(seed)
        self._language = LANGUAGES[language]
        self._asked: set[str] = set()

    def question(self) -> str:
        """Return a question that was not asked before."""
        while (question := self._fill(self._language.questions)) in self._asked:
            pass
        self._asked.add(question)
        return question

    def answer(self, sentences: int = 0) -> str:
        """Return an answer of some sentences, in one of four with something else than prose in it."""
        count = sentences or self.chance.randint(3, 6)
        prose = self._language.space.join(self._fill(self._language.sentences) for _ in range(count))
        if self.chance.random() < 0.75:
            return prose
        extra = self.chance.choice(EXTRAS)(self.chance)
        return self.chance.choice((f"{prose}\n\n{extra}", f"{extra}\n\n{prose}"))

    def system(self) -> str:
        """Return a system text."""
        return self.chance.choice(self._language.systems)

    def chat(self, turns: int = 1, *, system: bool = False) -> list[Message]:
        """Return a conversation of so many questions and answers."""
        messages = [{"role": "system", "content": self.system()}] if system else []
        for _ in range(turns):
            messages.append({"role": "user", "content": self.question()})
            messages.append({"role": "assistant", "content": self.answer()})
        return messages

    def _fill(self, patterns: Sequence[str]) -> str:
        chosen, words = self.chance.choice, self._language
        filled = chosen(patterns).format(
            who=chosen(words.who),
            does=chosen(words.does),
            what=chosen(words.what),
            where=chosen(words.where),
            why=chosen(words.why),
        )
        return filled[0].upper() + filled[1:]


def _isbn(chance: random.Random) -> str:
    digits = [9, 7, 8, *(chance.randrange(10) for _ in range(9))]
    check = -sum(digit * (3 if at % 2 else 1) for at, digit in enumerate(digits)) % 10
    written = "".join(map(str, [*digits, check]))
    return f"ISBN {written[:3]}-{written[3]}-{written[4:7]}-{written[7:12]}-{written[12]}"


def _uuid(chance: random.Random) -> str:
    return f"`{uuid.UUID(int=chance.getrandbits(128), version=4)}`"


def _code(chance: random.Random) -> str:
    return f"""```python
def kettle_{chance.randrange(1000)}(x: list[int], *, y: str = "a") -> dict[str, int]:
    total = {{"sum": sum(x), 'n': len(x)}}  # {{total}} is no placeholder
    return {{**total, y: x[-1] << 2}} if x and y != "nan" else {{}}
```"""


def _shell(chance: random.Random) -> str:
    return f"""```bash
git clone git@github.com:example/lamps.git && cd lamps
curl -fsS "https://example.org/v{chance.randrange(9)}/lamps?page=2&sort=-name#top" | jq '.[0]'
export TOKEN="$(cat token.txt)" API_KEY=$API_KEY
```"""


def _template(chance: random.Random) -> str:
    return f"""```html
<ul class="lamps">
  {{% for lamp in lamps %}}<li id="l{chance.randrange(1000)}">{{{{ lamp.name }}}} <s>old</s></li>{{% endfor %}}
</ul>
```"""


def _table(chance: random.Random) -> str:
    return "| Lamp | Height | Since |\n|---|---:|---|\n" + "\n".join(
        f"| {name} | {chance.randrange(100)}.5 m | 19{chance.randrange(10, 99)} |" for name in ("North", "Mill", "Quay")
    )


def _list(chance: random.Random) -> str:
    return "\n".join(f"{at}. lamp {chance.randrange(10_000)}" for at in range(1, 5))


def _bullets(chance: random.Random) -> str:
    return "\n".join(f"- **lamp {chance.randrange(1000)}**: lit" for _ in range(3))


def _json(chance: random.Random) -> str:
    return json.dumps({"lamps": [{"id": chance.randrange(10**6), "lit": True, "note": None}]}, indent=1)


def _maths(chance: random.Random) -> str:
    n = chance.randrange(2, 99)
    return f"$$\\int_0^{{{n}}} x^2\\,dx = \\frac{{{n}^3}}{{3}} \\approx {n**3 / 3:.4f}$$"


def _date(chance: random.Random) -> str:
    return f"2024-05-{chance.randrange(10, 31)}T12:{chance.randrange(10, 60)}:45.123456Z (05.06.2024, 7/14/1998)."


def _numbers(chance: random.Random) -> str:
    return f"{chance.randrange(1, 999)},{chance.randrange(100, 999)},000 = 1.5e-9 × 10.20.30.40 + 0xDEADBEEF, ±3 °C."


def _hash(chance: random.Random) -> str:
    return f"sha256: {chance.getrandbits(256):064x}"


def _web(chance: random.Random) -> str:
    return f"https://en.example.org/wiki/Lamp_(light)?oldid={chance.randrange(10**9)}"


def _emoji(chance: random.Random) -> str:
    return chance.choice(("👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽", "“So” – ‘it’ goes… ½ € ™", "naïve Größe, ça va, Ærø, İstanbul")) + "!"


EXTRAS: Sequence[Callable[[random.Random], str]] = (
    *(_code, _shell, _template, _table, _list, _bullets, _json, _maths),
    *(_isbn, _uuid, _date, _numbers, _hash, _web, _emoji),
)
