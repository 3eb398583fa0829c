"""Series descriptions as scanners and technologists write them, and what each one means for a head CT."""

DESCRIPTIONS = {
    "head": """
        Hode uten kontrast|Beyin kontrastsız|Hoofd blanco|Cráneo s/c|Crânio s/ contraste
        TDM cérébrale sans PDC|Koponya natív|颅脑CT平扫 5mm|두부 CT 비조영|NEURO HELICAL ROUTINE
        HEAD|CT HEAD|HEAD 5.0|HEAD AXIAL 5.0|Head 5.0 H30s|Head 5.0 Hr40|HEAD WO|Head W/O|CT HEAD WITHOUT
        HEAD WO CONTRAST
        CT HEAD WO IV CONTRAST|Head without contrast 5.0|BRAIN|BRAIN WO|Brain W/O Contrast 2.5mm|AX BRAIN
        AXIAL BRAIN 5MM
        HEAD STANDARD|ROUTINE HEAD|Routine Head 5mm|HeadSeq 4.8 H31s|HeadRoutine 5.0|Head_Spiral 1.5|HEAD ST 2.5
        CTHEAD
        AX ORBITOMEATAL 5.0|Head OM line|ORBITO-MEATAL 5MM|HEADNECK|Head C-|HEAD (-C)|NCCT|NCCT HEAD|NON CON HEAD
        Non-contrast head|HEAD NONCON 5MM|Unenhanced brain|HEAD PLAIN|CT BRAIN PLAIN|CT Brain P|pre contrast head
        HEAD PRE
        HEAD POST FOSSA|POST OP HEAD|HEAD POST-OP|Head trauma|STROKE|STROKE HEAD 5.0|Stroke NCCT 0.625
        HEAD WITH C-SPINE
        CT HEAD AND CERVICAL SPINE|Skull base 2.5 / vertex 5|CRANIUM|Cranial CT|CCT|cerebrum|INTRACRANIAL
        head no iv contrast
        Head, contrast not given|HEAD CONTRAST NOT ADMINISTERED|5mm thick MPR Head|Head 3mm MPR Tra|FILTERED HEAD
        Neuro Head|NEURO 5MM|BRAIN IRIS|HEAD ASIR 40%|HEAD iDose (3)|Head AIDR|HEAD TRUE FIDELITY DLIR-H
        Schädel|Schädel nativ|Schaedel 5.0|CCT nativ|Kopf|Kopf nativ 5mm|Kopf ohne KM|Schädel ohne Kontrastmittel
        Kopf kein KM
        Gehirn|Hirn 4.0|Neurocranium|Neurokranium nativ|Schädel vor KM|CCT 5mm kraniokaudal|Kopf, KM nicht gegeben
        Schädelbasis|Schädel Trauma|Hirnschädel 3mm
        Crâne|CRANE|Crâne sans injection|Crâne SPC|Tête sans contraste|Encéphale|CERVEAU SANS IV|crâne non injecté
        Cérébral sans PDC|TDM cérébrale|CRANE 5MM SANS|Crane avant injection
        Cranio|CRANIO SENZA MDC|TC cranio basale|Encefalo|Encefalo senza contrasto|TC encefalo smdc|TESTA 5 mm
        CAPO BASALE
        cranio senza mezzo di contrasto|TC CRANIO PRIMA DEL MDC
        Cráneo|CRANEO SIMPLE|TC cráneo sin contraste|Craneo s/ contraste|Cabeza|CABEZA SIN CIV|Cerebro
        TAC cerebral sin contraste
        Cráneo sin civ 5.0|Encéfalo basal
        Crânio|CRANIO SEM CONTRASTE|Cabeça|CABECA SEM|TC crânio sem contraste
        Encéfalo sem contraste
        Glowa|Głowa|Głowa bez kontrastu|Glowa natywna|mózg|TK mózgu bez kontrastu|Czaszka 5 mm|GLOWA BEZ KONTR
        głowy 3.0
        Голова|Голова нативно|Головной мозг|Головной мозг без контраста|КТ головы|Череп 5 мм|мозг без КУ
        ГОЛОВА БЕЗ К/У
        Голова нативная фаза|головного мозга до введения контраста
        头|头部|头部平扫|颅脑平扫|颅脑 CT 平扫|头颅 5mm|脑|头颅未增强|顱腦|頭部平掃|腦部
        頭部|頭部単純|頭部単純CT|脳|頭部 造影なし|頭部 非造影|脳血管障害 頭部|頭蓋|頭部CT 5mm
        두부|두부 비조영|뇌|뇌 단순|뇌 CT 5mm|머리|두개골|Brain 비조영|두부 조영전
        Hoofd|Hoofd zonder contrast|Hersenen|Huvud|Huvud utan kontrast|Hjärna|Hode uten|Hoved|Kafa|Beyin|Hlava|Koponya
        """,
    "contrast": """
        CE head|Crâne APC|Hode med kontrast|Huvud med kontrast|Crânio c/ contraste|CCT KM art
        HEAD W|CT HEAD W CONTRAST|Head with contrast|HEAD C+|Head +C|BRAIN W/ CONTRAST|HEAD POST|post contrast head
        HEAD WWO CONTRAST
        CTA HEAD|CTA HEAD NECK|CT ANGIO HEAD|CTA CIRCLE OF WILLIS|CTA COW 0.625 HEAD|Head Angio 1.0|HEAD ANGIOGRAM
        CTV HEAD|CT VENOGRAM HEAD
        Head arterial phase|HEAD ART 1.0 arterial|HEAD VENOUS|Head IV contrast|HEAD BOLUS|Contrast enhanced head
        Enhanced brain|CECT BRAIN
        HEAD WITHOUT AND WITH CONTRAST|Brain pre and post contrast|head portal venous|Stroke CTA|CE CT head
        Schädel mit KM|Kopf nach KM|CCT KM|Kopf mit Kontrastmittel|Schädel Angio|CT-Angiographie Kopf|Kopf arteriell
        Kopf venös|Schädel nach Kontrast
        Crâne avec injection|Crâne injecté|CRANE AVEC IV|angioscanner cérébral|Crâne après injection|Tête avec PDC
        Crâne temps artériel|TSA crane|crâne veineux
        TC cranio con mdc|Cranio dopo mdc|ENCEFALO CON CONTRASTO|Angio TC cranio|cranio mdc
        Encefalo con mezzo di contrasto|cranio fase arteriosa|TC testa c+
        Cráneo con contraste|CRANEO CON CIV|AngioTC cráneo|Cabeza con contraste iv|cráneo contrastado
        Cerebro fase arterial|craneo con c|TAC craneo tras contraste
        Crânio com contraste|CRANIO POS CONTRASTE|Angio TC crânio|crânio fase arterial|Cabeça com contraste
        Crânio após contraste|cranio fase venosa
        Głowa z kontrastem|Głowa po kontraście|GLOWA Z KONTR|angio głowy|Angio TK głowy|głowa faza tętnicza
        głowa faza żylna|mózg z kontrastem
        Голова с контрастом|Голова с КУ|КТ-ангиография головы|Головной мозг с контрастированием
        голова артериальная фаза|голова венозная фаза|Голова С+|КТА головы|голова после контраста
        头部增强|颅脑增强|头颈CTA|头部动脉期|头部静脉期|颅脑造影|脑血管成像|頭部增強|头部 强化
        頭部造影|頭部造影CT|脳 造影|頭部 動脈相|頭部 静脈相|頭部CTA|頭部 造影 1mm
        두부 조영|뇌 조영증강|두부 CTA|뇌혈관조영|두부 동맥기|뇌 정맥기|Brain 조영
        """,
    "sharp": """
        HEAD BONE|Head Bone 1.25|BONE PLUS HEAD|Head sharp 3.0|HEAD EDGE|HEAD BONE WINDOW|Kopf Knochen
        Schädel Knochenfenster
        Crâne osseux|crâne fenêtre osseuse|cranio osso|CRANIO OSSEA|cráneo óseo|crânio osso|glowa kosc|Głowa kostne
        голова кости|голова костное окно
        头部骨窗|颅脑骨算法|頭部 骨条件|두부 뼈
        """,
    "spectral": """
        HEAD MonoE 40keV|Head Mono 70 keV|HEAD MONOENERGETIC 50|Head Mono+ 40keV|Monochromatic 65 keV head
        Head VMI 55|MonoE 140 brain|Head 190keV
        HEAD VNC|Virtual non contrast head|Head virtual unenhanced|VUE HEAD|virtuell nativ Kopf|Head VNCa
        Virtual noncalcium head
        HEAD IODINE MAP|Iodine no water head|Kopf Jodkarte|Head Z Effective|Zeff head|HEAD Z-EFF
        Head electron density|Kopf Elektronendichte|Rho/Z head
        HEAD BONE REMOVED|Head bone subtraction|BONE SUB HEAD|Bone-free head|Subtracted head
        Head calcium suppressed 50|Head material density water
        DynaCT Head|XperCT head|CBCT HEAD|Cone beam head|FlatPanel CT head|Head Cone-Beam CT|O-ARM HEAD
        Innova CT brain|FDCT head
        头部单能 60keV|虚拟平扫 头|颅脑 碘图|頭部 仮想単純|頭部 電子密度|두부 가상비조영|голова моноэнергетическое 40
        """,
    "other purpose": """
        SCOUT HEAD|Topogram 0.6 T20s|HEAD LOCALIZER|Surview|Scanogram head|MIP HEAD AX|Head MIP thin|VRT head
        PERFUSION HEAD|CT Perfusion brain|Head CBF
        TMAX BRAIN|HEAD CTP|Dose Report|Patient Protocol|PreMonitoring|Monitoring|Test bolus|Smart Prep|Screen Save
        头部灌注|голова перфузия|뇌 관류
        """,
    "sinuses or face": """
        SINUS|CT SINUSES|NNH|FACIAL BONES|Maxillofacial|ORBITS|Orbita|Mandible
        Senos paranasales|Zatoki|Пазухи носа|鼻窦|副鼻腔|부비동
        """,
    "temporal bone": "Temporal bone|IAC|Inner Ear|InnerEarSpi 0.6|Felsenbein|Rocher|Oído|Височная кость|颞骨|内耳",
    "neck": "NECK|Hals|Soft tissue neck|Cuello|Collo|Pescoço|Szyja|Шея|颈部|경부",
    "spine": "C-SPINE|CSPINE|C SPINE 2.0|HWS|LWS|Cervical|Rachis|Columna|Kręgosłup|Позвоночник|颈椎|頸椎|척추",
    "chest": "CHEST|Thorax|THORAX 5.0|LUNG|Tórax|Torace|Klatka piersiowa|Грудная клетка|胸部|흉부",
    "abdomen or pelvis": "ABDOMEN|ABD/PELVIS|Becken|Addome|Abdomen nativ|Brzuch|Брюшная полость|腹部|복부",
    "extremity": "KNEE|LEFT HIP|Femoral head|ARM|Humeral head|Knie|Genou|Rodilla|膝",
    None: "5.0 mm axial|Recon 2: 2.5|H30s|Series 3|O-ARM|arms down|head first|1.25 STND|Axial|",
}
